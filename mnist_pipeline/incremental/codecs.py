"""How values become files: the codec of an asset, and codecs for common kinds of values."""

import contextlib
import io
import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from .digest import content_digest
from .errors import FormatError, PipelineError
from .store import Artifact, Store, as_store_error

if TYPE_CHECKING:
    import pandas as pd

T = TypeVar("T")


def _own_version(value: Any) -> str:
    return str(value.data_version)


def _not_given(*of: Any) -> Any:
    raise TypeError("a codec needs dump and load, or write and open")


@dataclass(frozen=True)
class Codec(Generic[T]):
    """How the values of one asset are stored: by `dump` and `load`, or else `write` and `open`."""

    filename: str | Callable[[T], str]
    """Name of the file, or what returns it for a value."""
    dump: Callable[[T], bytes] = _not_given
    """The value to bytes."""
    load: Callable[[bytes, str], T] = _not_given
    """Bytes and the file's name to the value."""
    version: Callable[[T], str] = _own_version
    """The value to its data version, a digest of its content; by default its `data_version`."""
    write: Callable[[T, Path], None] | None = None
    """Writes a value to a local file of any size."""
    open: Callable[[Path], T] | None = None
    """A local file, which may be removed afterwards, to the value."""

    def name_of(self, value: T) -> str:
        """Return the name of the file for a value."""
        return self.filename if isinstance(self.filename, str) else self.filename(value)

    @contextlib.contextmanager
    def encoded(self, value: T) -> Iterator[bytes | Path]:
        """Give a value as bytes, or as a temporary local file, which may be moved.

        Raises StoreError where the temporary folder has no room.
        """
        if self.write is None:
            yield self.dump(value)
            return
        with tempfile.TemporaryDirectory(prefix="artifact-") as folder:
            file = Path(folder, self.name_of(value))
            remedy = "Make room there, or point TMPDIR to where there is some."
            with as_store_error("write", remedy, file):
                self.write(value, file)
            yield file

    def read(self, store: Store, artifact: Artifact) -> T:
        """Read a value from the store, verified before it is decoded.

        Raises StoreError if the file is gone or damaged, FormatError if it cannot be decoded.
        """
        try:
            if self.open is None:
                return self.load(store.read(artifact), artifact.filename)
            with store.local(artifact) as path:
                return self.open(path)
        except PipelineError:
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

    def load(data: bytes, name: str) -> "pd.DataFrame":
        import pandas as pd

        return pd.read_parquet(io.BytesIO(data))

    def version(frame: "pd.DataFrame") -> str:
        import pandas as pd

        columns = {str(name): str(kind) for name, kind in frame.dtypes.items()}
        rows = pd.util.hash_pandas_object(frame).to_numpy()
        return content_digest({"columns": list(columns.items())}, rows)

    return Codec(filename, lambda frame: bytes(frame.to_parquet()), load, version)
