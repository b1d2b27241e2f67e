"""Hyperparameters: what is learned, how, and how good it must be; typed and validated.

They are read from `params.toml` by `config.params`. Everything here is part of what a result *is*.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

_BY_EPOCH = {
    "loss": "squared_hinge",
    "learning_rate": "constant",
    "eta0": 0.1,
    "average": True,
    "average_after": 1,
    "max_iter": 20,
    "early_stopping": True,
    "n_iter_no_change": 2,
}

PRESETS: dict[str, dict[str, Any]] = {
    "tutorial": {"features": "raw", "hold_out": False},
    "scaled": {"features": "scaled"},
    "fast": {
        "features": "gradients",
        "cells": (7, 4),
        "whitening": 0.01,
        "alpha": 1e-5,
        **_BY_EPOCH,
    },
    "accurate": {
        "features": "kernel",
        "cells": (9, 5, 3),
        "whitening": 1e-4,
        "alpha": 1e-7,
        "rotation": 4.0,
        "zoom": 0.03,
        "shift": 0.5,
        **_BY_EPOCH,
        "max_iter": 6,
    },
}
"""What each preset sets in `[model]`; every other key keeps the default below."""

DEFAULT_PRESET = "fast"


class Table(BaseModel):
    """A table of the params file."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class SplitParams(Table):
    """`[split]`: arguments of scikit-learn's `train_test_split`, the tutorial's by default."""

    test_size: float = Field(0.2, ge=0.01, le=0.99)
    random_state: int = Field(42, ge=0, lt=2**32)


class ValidationParams(Table):
    """`[validation]`: which of the training rows are held out of the fit, to choose by."""

    size: float = Field(0.1, ge=0.01, le=0.5)
    random_state: int = Field(42, ge=0, lt=2**32)


class ModelParams(Table):
    """`[model]`: a preset, and any key that overrides it.

    `features` to `shift`, `average_after`, `early_stopping` and `n_iter_no_change` are this
    project's, the others arguments of `SGDClassifier` with its own defaults.
    """

    preset: Literal["tutorial", "scaled", "fast", "accurate"] = DEFAULT_PRESET  # type: ignore[assignment]
    features: Literal["raw", "scaled", "gradients", "kernel"] = "raw"
    hold_out: bool = True
    orientations: int = Field(8, ge=2, le=32)
    cells: tuple[Annotated[int, Field(ge=1, le=14)], ...] = Field(
        (7, 4), min_length=1, max_length=4, strict=False
    )
    n_components: int = Field(3000, ge=10, le=10_000)
    gamma: float = Field(0.033, gt=0.0)
    whitening: float = Field(0.01, gt=0.0)
    n_whitening: int = Field(20_000, ge=1000)
    rotation: float = Field(0.0, ge=0.0, le=45.0)
    zoom: float = Field(0.0, ge=0.0, le=0.5)
    shift: float = Field(0.0, ge=0.0, le=4.0)
    random_state: int = Field(42, ge=0, lt=2**32)
    loss: Literal["hinge", "squared_hinge", "perceptron", "log_loss", "modified_huber"] = "hinge"
    penalty: Literal["l2", "l1", "elasticnet"] = "l2"
    alpha: float = Field(0.0001, gt=0.0)
    l1_ratio: float = Field(0.15, ge=0.0, le=1.0)
    max_iter: int = Field(1000, ge=1, le=1_000_000)
    tol: float = Field(0.001, ge=0.0)
    learning_rate: Literal["constant", "optimal", "invscaling", "adaptive"] = "optimal"
    eta0: float = Field(0.01, gt=0.0)
    average: bool = False
    average_after: int = Field(0, ge=0, le=1000)
    early_stopping: bool = False
    n_iter_no_change: int = Field(5, ge=1, le=1000)

    @model_validator(mode="before")
    @classmethod
    def _start_from_preset(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        preset = given.get("preset", DEFAULT_PRESET)
        return (PRESETS.get(preset, {}) if isinstance(preset, str) else {}) | given

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.early_stopping and not self.hold_out:
            raise ValueError(
                "early_stopping needs the validation part: set hold_out = true, or "
                "early_stopping = false (a preset sets either)"
            )
        if self.features == "kernel" and self.n_components > self.n_whitening:
            raise ValueError("n_components is more than n_whitening, the digits to choose from")
        if self.distorts and self.features not in {"gradients", "kernel"}:
            raise ValueError(
                f"rotation, zoom and shift distort deskewed digits: features = {self.features!r} "
                "has none; set those that the preset sets to 0"
            )
        if self.by_epoch and self.learning_rate == "adaptive":
            raise ValueError("learning_rate = 'adaptive' cannot be used in a fit by epoch")
        return self

    @property
    def by_epoch(self) -> bool:
        """Whether the fit goes by epoch, in whitened coordinates, or by `SGDClassifier`'s rule."""
        return self.early_stopping or self.features in {"gradients", "kernel"}

    @property
    def distorts(self) -> bool:
        """Whether digits are distorted, in each epoch in another way."""
        return bool(self.rotation or self.zoom or self.shift)

    @property
    def streamed(self) -> bool:
        """Whether features are made anew in each epoch: distorted, or too many to keep."""
        return self.features == "kernel" or self.distorts


class ChampionParams(Table):
    """`[champion]`: when a new model is worse than the champion, beyond chance."""

    level: float = Field(0.05, gt=0.0, lt=0.5)


class EvaluationParams(Table):
    """`[evaluation]`: the least test accuracy of an evaluation that makes sense at all."""

    least_accuracy: float = Field(0.5, ge=0.0, le=1.0)
