"""The numbers that MNIST is made of, and nothing that depends on them."""

PIXELS = 784
"""Of an image, 28 x 28, row by row from the top left."""

CLASSES = 10
"""The digits 0 to 9."""
