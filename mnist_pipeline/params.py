"""Hyperparameters, the split and the floors: `params.toml`, typed and validated.

Everything here is part of what a result *is*. Where things are found and kept is in `settings`.
"""

import tomllib
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mnist_pipeline.errors import SettingsError
from mnist_pipeline.settings import describe

PRESETS: dict[str, dict[str, Any]] = {
    "tutorial": {"features": "raw"},
    "scaled": {"features": "scaled"},
}
"""What each preset sets in `[model]`; every other key keeps `SGDClassifier`'s own default."""


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class SplitParams(_Table):
    """`[split]`: arguments of scikit-learn's `train_test_split`, the tutorial's by default."""

    test_size: float = Field(0.2, ge=0.01, le=0.99)
    random_state: int = Field(42, ge=0, lt=2**32)


class ModelParams(_Table):
    """`[model]`: a preset, and any key that overrides it. Defaults are `SGDClassifier`'s own."""

    preset: Literal["tutorial", "scaled"] = "scaled"
    features: Literal["raw", "scaled"] = "scaled"
    random_state: int = Field(42, ge=0, lt=2**32)
    loss: Literal["hinge", "squared_hinge", "perceptron"] = "hinge"
    penalty: Literal["l2", "l1", "elasticnet"] = "l2"
    alpha: float = Field(0.0001, gt=0.0)
    l1_ratio: float = Field(0.15, ge=0.0, le=1.0)
    max_iter: int = Field(1000, ge=1, le=1_000_000)
    tol: float = Field(0.001, ge=0.0)
    learning_rate: Literal["constant", "optimal", "invscaling", "adaptive"] = "optimal"
    eta0: float = Field(0.01, gt=0.0)
    average: bool = False

    @model_validator(mode="before")
    @classmethod
    def _start_from_preset(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        preset = given.get("preset", "scaled")
        return (PRESETS.get(preset, {}) if isinstance(preset, str) else {}) | given


class FloorParams(_Table):
    """`[floor]`: the least test accuracy, per source, that an evaluation may be published with."""

    sample: float = Field(0.80, ge=0.0, le=1.0)
    openml: float = Field(0.85, ge=0.0, le=1.0)


class Params(_Table):
    """All of `params.toml`."""

    split: SplitParams = SplitParams()
    model: ModelParams = ModelParams()
    floor: FloorParams = FloorParams()

    @classmethod
    def load(cls, file: Path) -> Self:
        """Read and validate a params file.

        Raises
        ------
        SettingsError
            The file is missing, is not TOML, or holds an unknown key or a value out of range.
        """
        try:
            content = tomllib.loads(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise SettingsError(
                f"MNIST_PARAMS: cannot read {file}: {error.strerror}. Point MNIST_PARAMS at a "
                "params file, or restore params.toml in the project."
            ) from None
        except (ValueError, RecursionError) as error:
            raise SettingsError(f"{file} is not valid TOML: {error}") from None
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            raise SettingsError(describe(error, str(file))) from None
