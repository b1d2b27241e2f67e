"""The blocks of code on the pages for people: README and docs."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from mnist_pipeline.config.settings import PROJECT
from mnist_pipeline_tests.support import reference

PAGES = {
    str(file.relative_to(PROJECT)): file.read_text()
    for file in [*PROJECT.glob("*.md"), *(PROJECT / "docs").glob("*.md")]
}


@dataclass(frozen=True)
class Block:
    """A block between fences."""

    page: str
    language: str
    text: str
    is_generated: bool
    """Whether `reference` writes it."""

    @property
    def commands(self) -> list[str]:
        """The lines of a console that a reader types; none of another block."""
        return re.findall(r"^\$ (.*)", self.text, re.M) if self.language == "console" else []


def blocks(language: str = r"\w*") -> Iterator[Block]:
    """Yield each block of a language, by default of any, page by page from the top."""
    for page, text in PAGES.items():
        for found in re.finditer(rf"^( *)```({language})\n(.*?)^ *```", text, re.M | re.S):
            before = text[: found.start()]
            is_generated = before.count(reference.NOTICE) > before.count(reference.END)
            code = re.sub(f"^{found[1]}", "", found[3], flags=re.M)
            yield Block(page, found[2], code, is_generated)
