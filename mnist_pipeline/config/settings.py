"""Settings: environment variables, validated, with paths made absolute.

Hyperparameters, floors and the split are in `params`.
"""

import importlib.util
import os
import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    HttpUrl,
    PlainValidator,
    TypeAdapter,
    ValidationError,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from mnist_pipeline.config import settings_file
from mnist_pipeline.digits.errors import redacted
from mnist_pipeline.digits.sources.openml import PUBLIC
from mnist_pipeline.digits.sources.registry import named
from mnist_pipeline.incremental.alerts import checked_address
from mnist_pipeline.incremental.errors import SettingsError
from mnist_pipeline.incremental.store import BucketPath, StorePath

_CLONE = Path(__file__).resolve().parents[2]
_PACKAGED = Path(str(files("mnist_pipeline") / "defaults"))

IN_CLONE = not _PACKAGED.is_dir()
"""Whether this package is in a clone, and not installed from a wheel."""

DEFAULTS = _CLONE if IN_CLONE else _PACKAGED
"""The folder with the files of a project: those of the clone, or those of the wheel."""


def _project() -> Path:
    if named := os.environ.get("MNIST_PROJECT"):
        return Path(named).resolve()
    if IN_CLONE:
        return _CLONE
    here = Path.cwd()
    if any((here / name).is_file() for name in ("params.toml", settings_file.NAME)):
        return here
    import platformdirs

    return platformdirs.user_data_path("mnist-pipeline")


PROJECT = _project()
"""The folder that relative paths are relative to: of several, the first that there is.

`MNIST_PROJECT`; the clone; the working directory, if it has params or settings; a folder of the
user's data.
"""


def of_project(name: str) -> Path:
    """Return the path of a file of the project; of the default, where the project has none."""
    own = PROJECT / name
    return own if own.exists() else DEFAULTS / name


def _in_project(value: object) -> Path:
    text = re.sub("^file:///", "/", str(value))
    if not text:
        raise ValueError("a path is needed, this is empty")
    if re.match(r"[A-Za-z][\w+.-]*:", text):
        raise ValueError("only a local path is allowed here, no URL")
    if "$" in text:
        raise ValueError("no variable is put in here: write the path out (~ is the home folder)")
    try:
        return (PROJECT / Path(text).expanduser()).resolve()
    except (OSError, RuntimeError) as error:
        raise ValueError(str(error)) from None


def _folder(path: Path) -> Path:
    try:
        if path.exists() and not path.is_dir():
            raise ValueError("a folder is needed, this is a file")
    except OSError as error:
        raise ValueError(error.strerror) from None
    return path


def _home(path: Path) -> Path:
    if set("%?") & set(str(path)):
        raise ValueError(
            "Dagster's SQLite storage cannot have % or ? in its path: name another folder"
        )
    return _folder(path)


def _place(value: object) -> StorePath:
    text = str(value)
    scheme = re.match(r"([A-Za-z][\w+.-]*):", text)
    if scheme is None or re.match("file:///", text):
        return _folder(_in_project(value))
    if scheme[1].lower() != "s3":
        raise ValueError("a local folder or s3://bucket/prefix is allowed, no other URL")
    if set("@?#") & set(text):
        raise ValueError(
            "s3://bucket/prefix has no credentials, no ? and no #: credentials and the server's "
            "address are in the AWS_ variables (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL ...)"
        )
    found = re.fullmatch(r"s3://([A-Za-z0-9][\w.-]{1,61}[A-Za-z0-9])((?:/[^/\s]+)*)/?", text, re.I)
    if found is None or {".", ".."} & set(found[2].split("/")):
        raise ValueError(
            "s3://bucket/prefix is needed: the name of a bucket, then a plain path; the server's "
            "address goes to AWS_ENDPOINT_URL"
        )
    if importlib.util.find_spec("boto3") is None:
        raise ValueError("s3:// needs boto3: `make s3` installs it in a clone")
    return BucketPath(found[1] + found[2])


def _source(value: str) -> str:
    named(value)
    return value


def _http_url(value: str) -> str:
    url = TypeAdapter(HttpUrl).validate_python(value)
    if url.query or url.fragment:
        raise ValueError("a base URL has no ? and no #")
    if "$" in value:
        raise ValueError("no variable is put in here: write the address out")
    return str(url).rstrip("/")


def _urls(value: object) -> object:
    return value.replace(",", " ").split() if isinstance(value, str) else value


def _home_in(data_dir: object) -> Path:
    return (data_dir if isinstance(data_dir, Path) else PROJECT / "data") / "dagster_home"


ProjectPath = Annotated[Path, BeforeValidator(_in_project)]
HomePath = Annotated[ProjectPath, AfterValidator(_home)]


class Settings(BaseSettings):
    """Where the digits come from and where artifacts go.

    Values come from the arguments, else the environment, else the settings file, else the defaults
    below. `Settings.load` raises errors for people.
    """

    model_config = SettingsConfigDict(frozen=True, extra="ignore", case_sensitive=True)

    source: Annotated[str, AfterValidator(_source)] = Field("openml", alias="MNIST_SOURCE")
    openml_server: Annotated[str, AfterValidator(_http_url)] = Field(
        "https://www.openml.org", alias="MNIST_OPENML_SERVER"
    )
    mirrors: Annotated[
        tuple[Annotated[str, AfterValidator(_http_url)], ...], NoDecode, BeforeValidator(_urls)
    ] = Field(PUBLIC, alias="MNIST_MIRRORS")
    data_dir: Annotated[StorePath, PlainValidator(_place)] = Field(
        PROJECT / "data", alias="MNIST_DATA_DIR"
    )
    params_file: ProjectPath = Field(
        default_factory=lambda: of_project("params.toml"), alias="MNIST_PARAMS"
    )
    retrain_cron: str = Field("0 3 * * 1", alias="MNIST_RETRAIN_CRON")
    alerts: Annotated[
        tuple[Annotated[str, AfterValidator(checked_address)], ...],
        NoDecode,
        BeforeValidator(_urls),
    ] = Field((), alias="MNIST_ALERTS")
    dagster_home: HomePath = Field(
        default_factory=lambda values: _home_in(values.get("data_dir")),
        alias="DAGSTER_HOME",
    )

    @classmethod
    def load(cls, **overrides: Any) -> Self:
        """Read the environment and the settings file; `overrides` beat both.

        Raises SettingsError, which names the variable and what is allowed, where a value is not
        allowed or no setting has that name.
        """
        if os.environ.get("MNIST_PROJECT") and not PROJECT.is_dir():
            raise SettingsError(
                f"MNIST_PROJECT: {PROJECT} is not a folder (`mnist-pipeline init` creates one)"
            )
        names = {name: str(field.alias) for name, field in cls.model_fields.items()}
        settings_file.check_names(PROJECT, names.values())
        try:
            return cls(_env_file=of_project(settings_file.NAME), **overrides)
        except ValidationError as error:
            raise SettingsError(describe(error, "Settings", names)) from None


def describe(error: ValidationError, where: str, names: Mapping[str, str] | None = None) -> str:
    """One line a person can act on for each thing pydantic refused.

    `names` are those that people know fields by: pydantic names those with a default otherwise.
    """
    lines = []
    for problem in error.errors(include_url=False):
        if problem["type"] == "default_factory_not_called":
            continue  # it follows from another one that is listed
        name = ".".join(str(part) for part in problem["loc"])
        name = (names or {}).get(name, name)
        message = problem["msg"].removeprefix("Value error, ")
        if not name:
            lines.append(f"{where}: {message}")
        elif problem["type"] == "extra_forbidden":
            lines.append(f"{where}: {name} is not a known key")
        elif problem["type"] == "value_error" and isinstance(problem["input"], dict):
            lines.append(f"{where}: the keys of {name} do not go together: {message}")
        else:
            given = problem["input"]
            shown = repr(str(given) if isinstance(given, Path) else given)
            if "@" in shown or re.search(r":[\\/]*[^\\/]*:(?!\d+\b)", shown):
                shown = "(something with a password?)"
            lines.append(f"{where}: {name} = {redacted(shown)} is not allowed: {message}")
    return "\n".join(lines)
