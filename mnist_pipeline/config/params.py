"""The params file: `params.toml`, read, with its variants, into the params of `digits`.

Where things are found and kept is in `settings`.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import (
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    create_model,
    model_validator,
)

from mnist_pipeline.config import variants
from mnist_pipeline.config.settings import describe
from mnist_pipeline.digits.params import (
    ChampionParams,
    EvaluationParams,
    ModelParams,
    SplitParams,
    Table,
    ValidationParams,
)
from mnist_pipeline.digits.sources.registry import SOURCES
from mnist_pipeline.incremental.errors import SettingsError

if TYPE_CHECKING:
    FloorParams = Table
else:
    FloorParams = create_model(
        "FloorParams",
        __base__=Table,
        **{one.name: (float, Field(one.floor, ge=0.0, le=1.0)) for one in SOURCES},
    )
    """`[floor]`: the least accuracy, per source, of a model that may be promoted."""


class Params(Table):
    """All of `params.toml`, with the variants of `[variants]` and `[sweep]` by name."""

    split: SplitParams = SplitParams()
    validation: ValidationParams = ValidationParams()
    model: ModelParams = ModelParams()
    evaluation: EvaluationParams = EvaluationParams()
    champion: ChampionParams = ChampionParams()
    floor: FloorParams = FloorParams()
    variants: Mapping[str, ModelParams] = {}

    @model_validator(mode="wrap")
    @classmethod
    def _with_variants(cls, content: Any, validated: ModelWrapValidatorHandler[Self]) -> Self:
        expanded, chosen = variants.expanded(content, ModelParams.model_fields)
        # a variant may replace all of [model], which must be valid all the same
        params = validated(expanded)
        return params.model_copy(update={"model": params.variants[chosen]}) if chosen else params

    @classmethod
    def load(cls, file: Path) -> Self:
        """Read and validate a params file.

        Raises SettingsError where the file is missing or is not TOML, holds an unknown key or a
        value out of range, or names a variant that does not exist.
        """
        try:
            if file.exists() and not file.is_file():
                raise SettingsError(f"MNIST_PARAMS: {file} is not a regular file")
            return cls.model_validate(tomllib.loads(file.read_text(encoding="utf-8-sig")))
        except OSError as error:
            raise SettingsError(
                f"MNIST_PARAMS: cannot read {file}: {error.strerror}. Point MNIST_PARAMS at a "
                "params file, or restore params.toml in the project."
            ) from None
        except ValidationError as error:
            raise SettingsError(describe(error, str(file))) from None
        except (ValueError, RecursionError) as error:
            raise SettingsError(f"{file} is not valid TOML: {error}") from None
