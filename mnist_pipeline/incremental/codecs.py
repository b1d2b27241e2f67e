"""How values become files: the codec of an asset, and codecs for common kinds of values."""

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Generic, TypeVar

from mnist_pipeline.incremental.digest import content_digest
from mnist_pipeline.incremental.errors import FormatError, StoreError
from mnist_pipeline.incremental.store import Artifact, Store

if TYPE_CHECKING:
    import pandas as pd

T = TypeVar("T")

LARGE = 1 << 26
"""Bytes, 64 MiB: a larger file is opened, if its codec can do that, instead of read whole."""


def _own_version(value: Any) -> str:
    return str(value.data_version)


@dataclass(frozen=True)
class Codec(Generic[T]):
    """How the values of one asset are stored.

    Attributes
    ----------
    filename : str or callable
        Name of the file, or a callable that returns it for a value.
    dump : callable
        The value to bytes, or to a finished local file that may be moved.
    load : callable
        Bytes and the file's name to the value.
    version : callable
        The value to its data version, a digest of its content; by default its `data_version`.
    open : callable, optional
        An open file and the data version to the value, which may go on to read the file. Used
        instead of `load`.
    """

    filename: str | Callable[[T], str]
    dump: Callable[[T], bytes | Path]
    load: Callable[[bytes, str], T]
    version: Callable[[T], str] = _own_version
    open: Callable[[BinaryIO, str], T] | None = None

    def name_of(self, value: T) -> str:
        """Return the name of the file for a value."""
        return self.filename if isinstance(self.filename, str) else self.filename(value)

    def read(self, store: Store, artifact: Artifact, data_version: str) -> T:
        """Read a value from the store, verified before any parser sees it.

        Raises
        ------
        StoreError
            The file is gone or damaged.
        FormatError
            It is not what its name says.
        """
        try:
            if self.open is None:
                return self.load(store.read(artifact), artifact.filename)
            if artifact.size <= LARGE:
                return self.open(io.BytesIO(store.read(artifact)), data_version)
            with store.local(artifact) as path:
                # a file that is open can be read when its name is gone
                return self.open(path.open("rb"), data_version)
        except (StoreError, FormatError):
            raise
        except Exception as error:
            raise FormatError(f"{artifact.path} cannot be decoded: {error!r}") from error


def json_class(filename: str, kind: Any) -> Codec[Any]:
    """Return a codec for a class with `to_json`, `from_json` and `data_version`."""
    return Codec(filename, kind.to_json, lambda data, name: kind.from_json(data))


def document(filename: str) -> Codec[Any]:
    """Return a codec for JSON-like values."""
    return Codec(
        filename,
        lambda value: json.dumps(value, indent=2, allow_nan=False).encode() + b"\n",
        lambda data, name: json.loads(data),
        lambda value: content_digest({"value": value}),
    )


def text(filename: str) -> Codec[str]:
    """Return a codec for text, in UTF-8."""
    return Codec(filename, str.encode, lambda data, name: data.decode(), content_digest)


def table(filename: str) -> Codec["pd.DataFrame"]:
    """Return a codec for pandas data frames, as Parquet."""

    def dump(frame: "pd.DataFrame") -> bytes:
        return bytes(frame.to_parquet())

    def load(data: bytes, name: str) -> "pd.DataFrame":
        import pandas as pd

        return pd.read_parquet(io.BytesIO(data))

    def version(frame: "pd.DataFrame") -> str:
        import pandas as pd

        columns = {str(name): str(kind) for name, kind in frame.dtypes.items()}
        rows = pd.util.hash_pandas_object(frame).to_numpy()
        return content_digest({"columns": list(columns.items())}, rows)

    return Codec(filename, dump, load, version)
