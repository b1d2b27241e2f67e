"""How values are shown. It does not count for code versions."""


def shown(numbers: list[int]) -> dict[str, int]:
    """Return what the UI plots of numbers."""
    return {"how many": len(numbers)}
