"""The summary's text, from the file beside."""

from pathlib import Path


def fill(total: int, numbers: list[int]) -> str:
    """Return the filled text."""
    text = (Path(__file__).parent / "page.html").read_text()
    return text.format(total=total, numbers=" ".join(map(str, numbers)))
