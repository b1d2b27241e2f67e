"""Work on many rows in batches, over all cores: the same result for any number of threads."""

import threading
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import numpy.typing as npt

BATCH = 512
"""Rows at a time: few enough for a core's cache. A chunk (`pixels`) has whole batches."""

S = TypeVar("S", bound=np.generic)
T = TypeVar("T", bound=np.generic)

_thread = threading.local()


def in_batches(
    function: Callable[[npt.NDArray[S]], npt.NDArray[T]], rows: npt.NDArray[S]
) -> npt.NDArray[T]:
    """Apply a function of rows, from shape (m, ...) to (m, k), to all rows, `BATCH` at a time.

    Within a batch of another call it is one batch: whole pipelines go through batch by batch. The
    batches are the same whatever the number of threads, and BLAS works on one: what it computes
    can depend on how many it has. joblib's settings limit the number of threads.
    """
    if getattr(_thread, "in_a_batch", False):
        return function(rows)

    from joblib import Parallel, delayed
    from threadpoolctl import threadpool_limits

    def batch(start: int) -> npt.NDArray[T]:
        _thread.in_a_batch = True
        try:
            return function(rows[start : start + BATCH])
        finally:
            _thread.in_a_batch = False

    with threadpool_limits(limits=1):
        first = batch(0)
        if len(rows) <= BATCH:
            return first
        result = np.empty((len(rows), first.shape[1]), first.dtype)
        result[:BATCH] = first

        def fill(start: int) -> None:
            result[start : start + BATCH] = batch(start)

        starts = range(BATCH, len(rows), BATCH)
        Parallel(n_jobs=-1, require="sharedmem")(delayed(fill)(start) for start in starts)
    return result
