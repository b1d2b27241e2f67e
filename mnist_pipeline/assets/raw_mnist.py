"""The asset `raw_mnist`: the source's own bytes, verified."""

import contextlib
import time
from functools import partial

import dagster as dg

from mnist_pipeline.digits import infinite
from mnist_pipeline.digits.acquisition import Kept, from_openml, from_recipe, from_sample
from mnist_pipeline.digits.archive import MAX_BYTES, Archive, checksum
from mnist_pipeline.digits.errors import UnavailableError
from mnist_pipeline.digits.openml import FILENAME
from mnist_pipeline.digits.transfer import Progress
from mnist_pipeline.incremental import records
from mnist_pipeline.incremental.errors import StoreError
from mnist_pipeline.incremental.step import Seconds, judged, published_asset
from mnist_pipeline.incremental.store import Store

_LOG_SECONDS = 2.0
_HISTORY = 1000
_RETRIES = 2
_RETRY_SECONDS = 2.0
"""Before the step is run again where that may help; doubled the next time."""


@published_asset(
    Archive,
    group_name="source",
    kind="gzip",
    blocking=[checksum],
)
def raw_mnist(
    context: dg.AssetExecutionContext,
    source: dg.ResourceParam[str],
    openml_server: dg.ResourceParam[str],
    mirrors: dg.ResourceParam[tuple[str, ...]],
    store: dg.ResourceParam[Store],
) -> dg.MaterializeResult:
    """The download as served: OpenML's `mnist_784` version 1, the bundled sample, or a recipe.

    An archive that is in the store already is not downloaded again while OpenML names its md5.
    Where OpenML fails, the same digits come from a mirror; the metadata say from where.
    """
    seconds = Seconds()
    try:
        if source == "sample":
            acquired = from_sample()
        elif rows := infinite.rows_named(source):
            acquired = from_recipe(rows)
        else:
            acquired = from_openml(
                openml_server,
                mirrors,
                partial(_stored, store),
                partial(_newest, context.instance, store),
                _progress(context),
                context.log.info,
            )
    except UnavailableError as error:
        pause = _RETRY_SECONDS * 2**context.retry_number + (error.wait_seconds or 0)
        raise dg.RetryRequested(_RETRIES, pause) from error
    for failed in acquired.failed:
        context.log.warning(failed)
    origin = acquired.origin
    return judged(
        context,
        acquired.archive,
        [acquired.checksum],
        {
            "source": source,
            "origin": dg.MetadataValue.url(origin) if "://" in origin else origin,
            "md5": acquired.checksum.metadata.get("md5", "none: it cannot be unpacked"),
            "downloaded": acquired.downloaded,
            "failed": acquired.failed,
            "seconds": seconds(),
        },
    )


def _stored(store: Store, md5: str) -> Archive | None:
    """Return the archive with an MD5, if the store has it and it is sound."""
    found = store.find("raw_mnist", md5)
    if found is None or found.path.name != FILENAME or found.size > MAX_BYTES:
        return None
    archive = Archive(store.read(found), FILENAME)
    return archive if checksum(archive, md5).passed else None


def _newest(instance: dg.DagsterInstance, store: Store) -> Kept | None:
    """Return the newest archive of all digits that was published here and is still sound."""
    for made in records.newest(instance, dg.AssetKey("raw_mnist"), _HISTORY):
        told = {name: value.value for name, value in made.metadata.items()}
        artifact = records.artifact_of(store, "raw_mnist", made)
        if artifact and told.get("source") == "openml":
            with contextlib.suppress(StoreError):
                archive = Archive(store.read(artifact), artifact.path.name)
                return Kept(archive, artifact.data_version, told["origin"])
    return None


def _progress(context: dg.AssetExecutionContext) -> Progress:
    due = 0.0

    def report(done: int, total: int | None) -> None:
        nonlocal due
        if time.monotonic() >= due or done == total:
            due = time.monotonic() + _LOG_SECONDS
            of = f" of {total / 1e6:.1f}" if total else ""
            context.log.info(f"downloaded {done / 1e6:.1f}{of} MB")

    return report
