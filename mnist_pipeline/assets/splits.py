"""The assets `train_set` and `test_set`: the same step for either part."""

import time
from typing import Literal

import dagster as dg

from mnist_pipeline.assets.display import class_balance, digit_columns, first_digits
from mnist_pipeline.digits.data import checks
from mnist_pipeline.digits.data.dataset import Digits
from mnist_pipeline.digits.data.shape import Shape
from mnist_pipeline.digits.data.split import Split, split
from mnist_pipeline.digits.data.table import DigitTable
from mnist_pipeline.digits.params import SplitParams
from mnist_pipeline.digits.progress import Progress
from mnist_pipeline.digits.sources.archive import Archive
from mnist_pipeline.digits.sources.formats import decode
from mnist_pipeline.incremental.codecs import Codec
from mnist_pipeline.incremental.steps import Asset, Result, asset

Part = Literal["train", "test"]

_PARTS: dict[Part, str] = {
    "train": "The digits to learn from, split off as the tutorial does: [split] of params.toml.",
    "test": "The digits kept for the evaluation: the rest of the source, in the split's own order.",
}


def codec(part: Part) -> Codec[Digits]:
    """Return the codec of one part."""
    return Codec(f"{part}_set.parquet", write=Digits.write, open=Digits.read)


def split_assets(shape: Shape) -> list[Asset]:
    """Define `train_set` and `test_set` for images of this shape."""
    splitter = _Splitter()
    return [_split_asset(part, text, shape, splitter) for part, text in _PARTS.items()]


class _Splitter:
    """Decodes and splits an archive once for both steps, where one process runs both."""

    def __init__(self) -> None:
        self._for_the_other: tuple[Archive, SplitParams, DigitTable, Split] | None = None

    def split(
        self, archive: Archive, params: SplitParams, report: Progress
    ) -> tuple[DigitTable, Split]:
        """Return the decoded table and its split."""
        kept, self._for_the_other = self._for_the_other, None
        if kept and kept[:2] == (archive, params):
            return kept[2:]
        start = time.perf_counter()
        table = decode(archive)
        seconds = time.perf_counter() - start
        report(f"decoded {len(table.labels):,} digits in {seconds:.1f} s")
        drawn = split(table, **params.model_dump(), progress=report)
        self._for_the_other = archive, params, table, drawn
        return table, drawn


def _split_asset(part: Part, description: str, shape: Shape, splitter: _Splitter) -> Asset:
    @asset(
        codec(part),
        key=f"{part}_set",
        description=description,
        group_name="digits",
        kinds={"parquet"},
        metadata=digit_columns(shape),
        blocking=[
            checks.schema_and_range,
            checks.row_counts,
            checks.disjoint,
            checks.equals_sklearn,
        ],
        warning=[checks.class_balance, checks.is_mnist],
    )
    def digits_of_part(
        context: dg.AssetExecutionContext,
        raw_mnist: Archive,
        split_params: dg.ResourceParam[SplitParams],
    ) -> Result:
        table, drawn = splitter.split(raw_mnist, split_params, context.log.info)
        digits: Digits = getattr(drawn, part)
        return Result(
            digits,
            checks.of_split(table, drawn, part),
            {
                "dagster/row_count": len(digits),
                "class_balance": class_balance(digits),
                "first_label": int(digits.labels[0]),
                "first_digits": first_digits(digits),
            },
        )

    return digits_of_part
