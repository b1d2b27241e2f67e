"""The leaderboard: variants of the model, the model itself and the champion, ranked.

How they are compared is in `comparison`.
"""

from dataclasses import dataclass
from typing import Any, Self

from mnist_pipeline.digits.documents import Document

_SHOWN = 4

MODEL = "[model]"
"""Name of the entry of the model with the params of `[model]`; no variant can have it."""

CHAMPION = "(champion)"
"""Name of the champion's entry."""


@dataclass(frozen=True)
class Entry:
    """A variant (or `[model]`, or the champion) and its accuracy on the validation rows, 0-1.

    `model_version` is the data version of its candidate; `params` are those in which the variants
    differ. `accuracy_interval`, [low, high], is Wilson's at 95% of this variant alone: not
    corrected for choosing the best of many. `only_best_right` and `only_this_right` are the rows
    that just one of the two gets right; `p_value` is that of the exact one-sided McNemar test on
    these, as in `promotion`.
    """

    variant: str
    model_version: str
    params: dict[str, Any]
    accuracy: float
    accuracy_interval: list[float]
    only_best_right: int
    only_this_right: int
    p_value: float


@dataclass(frozen=True)
class Leaderboard(Document):
    """Variants, best first, equal ones by name; and why others were not compared.

    `n_validation` is the number of rows that all of them are compared on, `train_version` the data
    version of the training digits.
    """

    entries: list[Entry]
    left_out: dict[str, str]
    n_validation: int
    train_version: str

    def differences(self, entry: Entry) -> str:
        """Return the first few params in which a variant differs from the best one."""
        best = self.entries[0].params
        found = [f"{key} {value}" for key, value in entry.params.items() if value != best[key]]
        more = len(found) - _SHOWN
        return ", ".join(found[:_SHOWN]) + (f" and {more} more" if more > 0 else "")

    @classmethod
    def of(cls, document: dict[str, Any]) -> Self:
        """Return the leaderboard with a file's content."""
        return cls(**document | {"entries": [Entry(**one) for one in document["entries"]]})
