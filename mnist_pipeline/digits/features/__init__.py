"""What a model sees of a digit: transformers of pixels to features."""
