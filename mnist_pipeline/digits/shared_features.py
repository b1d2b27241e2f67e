"""Features that several fits share: made once, kept as a file, the same to the bit as made anew."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mnist_pipeline.digits.batches import BATCH, in_batches
from mnist_pipeline.digits.classifier import build, features_of
from mnist_pipeline.digits.dataset import Digits
from mnist_pipeline.digits.pixels import LazyPixels
from mnist_pipeline.digits.validation import Parts
from mnist_pipeline.incremental.errors import FormatError
from mnist_pipeline.params import ModelParams

FILENAME = "features.npy"


@dataclass(frozen=True)
class Features:
    """What the classifier sees of the rows of a fit.

    Attributes
    ----------
    fitted : float32 array of shape (n, k)
    held_out : float32 array of shape (m, k)
    """

    fitted: npt.NDArray[np.float32]
    held_out: npt.NDArray[np.float32]


def are_shared(params: ModelParams, train: Digits) -> bool:
    """Whether such a fit of such digits keeps features whole that are dearer to make than to read.

    Pixels, scaled or not, are cheaper to make; those that are streamed are never whole.
    """
    streamed = params.streamed or isinstance(train.pixels, LazyPixels)
    return params.features == "gradients" and not streamed


def params_of(params: ModelParams) -> dict[str, Any]:
    """Return the params that shape such features, and which rows are in which part."""
    return params.model_dump(mode="json", include={"features", "orientations", "cells", "hold_out"})


def make(params: ModelParams, parts: Parts, file: Path) -> None:
    """Make the features of both parts, each in its own batches, and write them to a new file."""
    pipeline = build(params)
    pipeline[:-1].fit(parts.fitted.pixels[:1])
    every = [part for part in (parts.fitted, parts.held_out) if part is not None]
    with file.open("wb") as into:
        for part in every:
            seen = in_batches(lambda rows: features_of(pipeline, rows), part.pixels)
            if part is parts.fitted:
                np.lib.format.write_array_header_1_0(
                    into,
                    {
                        "descr": np.lib.format.dtype_to_descr(np.dtype(np.float32)),
                        "fortran_order": False,
                        "shape": (sum(map(len, every)), seen.shape[1]),
                    },
                )
            # a memory map would end the process where the disk is full
            into.write(np.ascontiguousarray(seen, np.float32).data)


def read(file: Path, params: ModelParams, parts: Parts) -> Features | None:
    """Read what `make` wrote, as long as the file is there.

    Returns
    -------
    None where this machine makes other features of the first digits: processors differ in the last
    bits.

    Raises
    ------
    FormatError
        The file is something else.
    """
    try:
        found = np.asarray(np.load(file, mmap_mode="r", allow_pickle=False))
    except (OSError, ValueError) as error:
        raise FormatError(f"{file} holds no features: {error}") from None
    count = len(parts.fitted)
    if found.dtype != np.float32 or len(found) != count + len(parts.held_out or ()):
        raise FormatError(f"{file} holds features of {len(found):,} other rows")
    pipeline = build(params)
    probe = parts.fitted.pixels[:BATCH]
    pipeline[:-1].fit(probe[:1])
    same = np.array_equal(
        in_batches(lambda rows: features_of(pipeline, rows), probe), found[:BATCH]
    )
    return Features(found[:count], found[count:]) if same else None
