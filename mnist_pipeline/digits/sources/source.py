"""What a source of digits is: the interface that each module of a source implements.

Sources import neither `transfer` nor the readers of `formats`: the steps that need these hand them
in, so that an edit of a reader makes no download stale.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt

from mnist_pipeline.digits.data.dataset import Origin
from mnist_pipeline.digits.data.shape import CLASSES, Shape
from mnist_pipeline.digits.data.table import DigitTable
from mnist_pipeline.digits.progress import Progress, silent
from mnist_pipeline.digits.sources.archive import Archive
from mnist_pipeline.incremental.check import CheckResult

Read = Callable[[Archive, Shape], tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]]
"""Reads pixels and labels out of a file, by the format of its name (`formats.read`)."""


@dataclass(frozen=True)
class Answer:
    """What a server sent: the body as it came, and how its headers call its encoding."""

    body: bytes
    encoding: str


class Get(Protocol):
    """Gets what is at an address (`transfer.get`)."""

    def __call__(
        self, url: str, headers: Mapping[str, str], *, most: int, progress: Progress = silent
    ) -> Answer:
        """Return the answer, of at most `most` bytes."""


@dataclass(frozen=True)
class Acquired:
    """An archive, and how it was acquired.

    `origin` is the URL that it was downloaded from, now (`downloaded`) or before, without secrets;
    or who bundles it. It is not to be used if `checksum` failed. `failed` is what was tried before,
    and why that failed.
    """

    archive: Archive
    origin: str
    checksum: CheckResult
    downloaded: bool = False
    failed: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Access:
    """What a source acquires its file with.

    `server` is the base URL of OpenML, `mirrors` are URLs in the order in which they are tried.
    `stored` and `newest` return an earlier archive of the same source: that with an MD5, the newest
    one, compared with the MD5 that it was verified by then. `report` is called with how far a
    download is, and with what is tried next.
    """

    get: Get
    server: str = ""
    mirrors: Sequence[str] = ()
    stored: Callable[[str], Archive | None] = lambda md5: None
    newest: Callable[[], Acquired | None] = lambda: None
    report: Progress = silent


@dataclass(frozen=True)
class Card:
    """What cards say of the data set, and of models of it, in plain text.

    The `description` is who collected it, from whom, when, and which part of it this is; `use`,
    `not_use` and `limits` what a model of it is for, what not, and where it is likely to be wrong.
    `url` is where it was `published` (YYYY-MM-DD), `licence_url` the text of its licence; what is
    not known is empty.
    """

    name: str
    description: str
    licence: str
    use: str = "Single handwritten digits 0 to 9"
    not_use: str = (
        "Letters, several digits at once, print or displays, and decisions about people or money "
        "without a human who looks: cheques, ballots, forms, prescriptions."
    )
    limits: str = (
        "Those who wrote the digits are of one country and time; the same hands wrote training and "
        "test digits of this split, which is random by digit, so new hands will be harder. Some "
        "labels are disputed, and some digits are unreadable: no model should reach 100%."
    )
    creators: tuple[str, ...] = ()
    url: str = ""
    licence_url: str = ""
    published: str = ""


class Source(ABC):
    """Where digits, or other images, come from.

    Its `name` is recorded in every file made from its digits, and a key of `[floor]`; an archive is
    its own by the name of one of its `files`. `floor` is the least accuracy, 0-1, of a model that
    may be promoted, where `[floor]` sets none. `noun` is what an image shows, in texts for people
    (its plural has an s), and `class_names` are in the order of the labels. `larger` names the
    source that has all of these digits, printed after a run. If it `promises_mnist`, all of it, a
    model of other digits is promoted by a person only.
    """

    name: str
    files: tuple[str, ...]
    floor: float
    card: Card
    shape: Shape = Shape()
    noun: str = "digit"
    class_names: tuple[str, ...] = tuple("0123456789")
    larger: str = ""
    promises_mnist: bool = False

    def __init_subclass__(cls) -> None:
        if len(cls.class_names) != CLASSES:
            found = f"{len(cls.class_names)} class_names"
            raise TypeError(f"{cls.__name__} has {found}: a source has {CLASSES}")

    @property
    def allowed(self) -> str:
        """The values of MNIST_SOURCE for this source, for messages."""
        return repr(self.name)

    def named(self, value: str) -> Self | None:
        """Return the source that a value of MNIST_SOURCE names, None if it is not this one."""
        return self if value == self.name else None

    @abstractmethod
    def acquire(self, access: Access) -> Acquired:
        """Get the file, byte for byte as it is served.

        Raises UnavailableError where it failed in a way that may pass, SourceError where it cannot
        be had.
        """

    def keeps_promise(self, origin: Origin) -> bool:
        """Return whether digits are what the source promises: all of MNIST, if it does."""
        return origin.is_mnist or not self.promises_mnist

    def decode(self, archive: Archive, read: Read) -> DigitTable:
        """Decode the file. Raises FormatError where it is damaged or breaks its format."""
        return DigitTable(*read(archive, self.shape), self.name, promises_mnist=self.promises_mnist)
