"""The champion: which model is in use. `promotion` decides which one that is."""

from dataclasses import dataclass, field

from mnist_pipeline.digits.documents import Document


@dataclass(frozen=True)
class Champion(Document):
    """Which model is the champion, and which are blocked.

    Attributes
    ----------
    model_version : str or None
        Data version of the champion; None while no model has passed the gate.
    blocked : dict
        Data versions that cannot be promoted, and why.
    """

    model_version: str | None = None
    blocked: dict[str, str] = field(default_factory=dict)
