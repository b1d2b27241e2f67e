"""The assets `train_set` and `test_set`: the same step for either part, each made on its own."""

from typing import Literal

import dagster as dg

from mnist_pipeline.assets.display import class_balance, column_schema, first_digits
from mnist_pipeline.digits import checks
from mnist_pipeline.digits.archive import Archive
from mnist_pipeline.digits.dataset import COLUMNS, Digits
from mnist_pipeline.digits.split import split
from mnist_pipeline.digits.survey import survey
from mnist_pipeline.digits.table import decode
from mnist_pipeline.incremental.step import Seconds, judged, published_asset
from mnist_pipeline.params import SplitParams


def split_asset(part: Literal["train", "test"], description: str) -> dg.AssetsDefinition:
    """Define the asset of one part."""

    @published_asset(
        Digits,
        name=f"{part}_set",
        description=description,
        group_name="digits",
        kind="parquet",
        metadata=column_schema(COLUMNS),
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
    ) -> dg.MaterializeResult:
        seconds = Seconds()
        table = decode(raw_mnist)
        context.log.info(f"decoded {len(table.labels):,} digits in {seconds():.1f} s")
        drawn = split(table, **split_params.model_dump())
        if table.source == "infinite":
            digits, verdicts = survey(table, drawn, part, context.log.info)
        else:
            digits = getattr(drawn, part)
            verdicts = checks.of_split(table, drawn, part)
        return judged(
            context,
            digits,
            verdicts,
            {
                "dagster/row_count": len(digits),
                "class_balance": class_balance(digits),
                "first_label": int(digits.labels[0]),
                "first_digits": first_digits(digits),
                "seconds": seconds(),
            },
        )

    return digits_of_part


train_set = split_asset(
    "train", "The digits to learn from, split off as the tutorial does: `[split]` of params.toml."
)
test_set = split_asset(
    "test", "The digits kept for the evaluation: the rest of the source, in the split's own order."
)
