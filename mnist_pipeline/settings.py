"""The settings page: environment variables, read once, validated, with paths made absolute.

What is *learned* (hyperparameters, floors, the split) is not here but in `params`.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, HttpUrl, TypeAdapter, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from mnist_pipeline.errors import SettingsError

PROJECT = Path(__file__).resolve().parents[1]
"""The folder that relative paths are relative to: the clone's root."""

Source = Literal["openml", "sample"]


def _in_project(value: object) -> Path:
    text = str(value).removeprefix("file://")
    if not text:
        raise ValueError("a folder or file path is needed, this is empty")
    if "://" in text:
        raise ValueError("only local folders are supported so far: give a path, no URL")
    return (PROJECT / Path(text).expanduser()).resolve()


def _http_url(value: str) -> str:
    return str(TypeAdapter(HttpUrl).validate_python(value)).rstrip("/")


ProjectPath = Annotated[Path, BeforeValidator(_in_project)]


class Settings(BaseSettings):
    """Where the digits come from and where artifacts go.

    Values come from the arguments, else the real environment, else the project's `.env`, else the
    defaults below. Use `Settings.load` for messages made for people.
    """

    model_config = SettingsConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    source: Source = Field("openml", alias="MNIST_SOURCE")
    openml_server: Annotated[str, AfterValidator(_http_url)] = Field(
        "https://www.openml.org", alias="MNIST_OPENML_SERVER"
    )
    data_dir: ProjectPath = Field(PROJECT / "data", alias="MNIST_DATA_DIR")
    params_file: ProjectPath = Field(PROJECT / "params.toml", alias="MNIST_PARAMS")
    dagster_home: ProjectPath = Field(
        default_factory=lambda values: values.get("data_dir", PROJECT / "data") / "dagster_home",
        alias="DAGSTER_HOME",
    )

    @classmethod
    def load(cls, **overrides: Any) -> Self:
        """Read the environment and the project's `.env`; `overrides` beat both.

        Raises
        ------
        SettingsError
            A variable holds a value that is not allowed; the message names it and what is.
        """
        try:
            return cls(_env_file=PROJECT / ".env", **overrides)
        except ValidationError as error:
            raise SettingsError(describe(error, "Settings")) from None


def describe(error: ValidationError, where: str) -> str:
    """One line a person can act on for each thing pydantic refused."""
    lines = []
    for problem in error.errors(include_url=False):
        if problem["type"] == "default_factory_not_called":
            continue  # it follows from another one that is listed
        name = ".".join(str(part) for part in problem["loc"])
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            lines.append(f"{where}: {name} is not a known key")
        else:
            lines.append(f"{where}: {name} = {problem['input']!r} is not allowed: {message}")
    return "\n".join(lines)
