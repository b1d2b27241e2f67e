"""The decoded source: all of its digits in its own row order, whichever format they came in."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from io import BufferedIOBase

import numpy as np
import numpy.typing as npt

from mnist_pipeline.digits.data.pixels import is_large, slices, stacked
from mnist_pipeline.digits.progress import Progress, silent
from mnist_pipeline.digits.sources import arff, checksums, csv_rows, idx, sample
from mnist_pipeline.digits.sources.archive import Archive, Source
from mnist_pipeline.digits.streaming import synthetic
from mnist_pipeline.digits.streaming.synthetic import Recipe
from mnist_pipeline.incremental.digest import content_digest
from mnist_pipeline.incremental.errors import FormatError


@dataclass(frozen=True)
class DigitTable:
    """All digits of a source. `row_id` is the position in it, from 0.

    Attributes
    ----------
    pixels : uint8 array of shape (m, 784)
        28 x 28 images, row by row from the top left; 0 is background, 255 full ink. Of all rows;
        of generated digits, of the base that the rows after it are made from.
    labels : uint8 array of shape (n,)
        The digit that each image shows, 0-9.
    source : {"openml", "sample", "infinite"}
    recipe : Recipe or None
        Of generated digits.
    """

    pixels: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.uint8]
    source: Source
    recipe: Recipe | None = None

    @cached_property
    def digest(self) -> str:
        """Digest of all pixels and labels, in row order; of generated ones, of their recipe."""
        if self.recipe:
            return content_digest(asdict(self.recipe))
        return content_digest(self.pixels, self.labels)

    @cached_property
    def is_mnist(self) -> bool:
        """Whether these are all 70,000 digits of MNIST, in its own order, proven by `mnist`."""
        if len(self.pixels) != checksums.ROWS:
            return False
        return checksums.idx_md5(self.pixels, self.labels) == checksums.IDX_MD5

    def images(
        self, row_id: npt.NDArray[np.integer], progress: Progress = silent
    ) -> npt.NDArray[np.uint8]:
        """Return the pixels of these rows, mapped from a file where the table is large."""
        make = synthetic.maker(self.recipe, self.pixels) if self.recipe else self.pixels.__getitem__
        chunks = (make(row_id[rows]) for rows in slices(len(row_id)))
        return stacked(chunks, len(row_id), large=is_large(len(self.labels)), progress=progress)


def decode(archive: Archive) -> DigitTable:
    """Decode an archive of any format.

    Raises
    ------
    FormatError
        The file is damaged or breaks its format; the message names the file, where in it, and what
        was expected there.
    """

    @contextmanager
    def body() -> Iterator[tuple[BufferedIOBase, int]]:
        with archive.open() as stream:
            yield stream, arff.skip_header(stream) if archive.source == "openml" else 1

    if archive.source == "infinite":
        return _generated(archive)
    try:
        if archive.filename.endswith(".idx.gz"):
            with archive.open() as stream:
                digits = idx.decode(stream)
        else:
            digits = csv_rows.decode(body)
    except FormatError as error:
        raise FormatError(f"{archive.filename}, {error}") from None
    return DigitTable(*digits, archive.source)


def _generated(archive: Archive) -> DigitTable:
    recipe = synthetic.recipe_of(archive)
    base = decode(bundled := sample.read())
    if bundled.md5 != recipe.base_md5:
        raise FormatError(
            f"{bundled.filename} has md5 {bundled.md5}, {archive.filename} was made for "
            f"{recipe.base_md5}: install what requirements.lock names"
        )
    labels = base.labels[synthetic.base_of(np.arange(recipe.rows, dtype=np.int32))]
    return DigitTable(base.pixels, labels, archive.source, recipe)
