"""The asset `raw_mnist`: the source's own bytes, verified."""

import contextlib

import dagster as dg

from mnist_pipeline.digits.errors import UnavailableError
from mnist_pipeline.digits.sources import registry, transfer
from mnist_pipeline.digits.sources.archive import MAX_BYTES, Archive, checksum
from mnist_pipeline.digits.sources.source import Access, Acquired
from mnist_pipeline.incremental import history
from mnist_pipeline.incremental.codecs import Codec
from mnist_pipeline.incremental.errors import StoreError
from mnist_pipeline.incremental.steps import Result, asset
from mnist_pipeline.incremental.store import Store

KEY = dg.AssetKey("raw_mnist")

_RETRIES = 2
_RETRY_SECONDS = 2.0
"""Before the step is run again where that may help; doubled the next time."""


CODEC: Codec[Archive] = Codec(
    lambda archive: archive.filename, lambda archive: archive.data, Archive
)


@asset(
    CODEC,
    group_name="digits",
    kinds={"gzip"},
    blocking=[checksum],
    # it asks the source each time
    reuse=False,
)
def raw_mnist(
    context: dg.AssetExecutionContext,
    source: dg.ResourceParam[str],
    openml_server: dg.ResourceParam[str],
    mirrors: dg.ResourceParam[tuple[str, ...]],
    store: dg.ResourceParam[Store],
) -> Result:
    """The source's file as served, checksum verified.

    It is OpenML's `mnist_784` version 1, the bundled sample, or a recipe of generated digits. An
    archive that is in the store already is not downloaded again while OpenML names its md5. Where
    OpenML fails, the same digits come from a mirror; the metadata record from where.
    """
    try:
        access = _access(context, store, source, openml_server, mirrors)
        acquired = registry.named(source).acquire(access)
    except UnavailableError as error:
        if (error.wait_seconds or 0) > transfer.LONGEST_WAIT:
            raise
        pause = _RETRY_SECONDS * 2**context.retry_number + (error.wait_seconds or 0)
        raise dg.RetryRequested(_RETRIES, pause) from error
    for failed in acquired.failed:
        context.log.warning(failed)
    origin = acquired.origin
    return Result(
        acquired.archive,
        [acquired.checksum],
        {
            "source": source,
            "origin": dg.MetadataValue.url(origin) if "://" in origin else origin,
            "md5": acquired.checksum.metadata.get("md5", "none: it cannot be unpacked"),
            "downloaded": acquired.downloaded,
            **({"failed": acquired.failed} if acquired.failed else {}),
        },
    )


def _access(
    context: dg.AssetExecutionContext,
    store: Store,
    source: str,
    server: str,
    mirrors: tuple[str, ...],
) -> Access:
    """Return what a source acquires its file with: HTTP, and its earlier files in the store."""
    files = registry.named(source).files

    def stored(md5: str) -> Archive | None:
        """Return the archive with an MD5, if the store has it intact."""
        made = history.with_version(context.instance, store, KEY, md5)
        found = made.artifact(store) if made else None
        if found is None or found.filename not in files or found.size > MAX_BYTES:
            return None
        with contextlib.suppress(StoreError):  # a damaged one is downloaded again
            archive = Archive(store.read(found), found.filename)
            return archive if checksum(archive, md5).passed else None
        return None

    def newest() -> Acquired | None:
        """Return the newest archive of the source that was published here and is intact."""
        for made in history.all_of(context.instance, KEY):
            artifact = made.artifact(store)
            if artifact and made.value("source") == source:
                with contextlib.suppress(StoreError):
                    archive = Archive(store.read(artifact), artifact.filename)
                    same = checksum(archive, made.data_version or "")
                    return Acquired(archive, made.value("origin"), same)
        return None

    return Access(transfer.get, server, mirrors, stored, newest, context.log.info)
