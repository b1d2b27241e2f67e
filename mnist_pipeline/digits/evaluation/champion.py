"""The champion: which model is in service. How it is chosen is in `gate`."""

from dataclasses import dataclass, field

from mnist_pipeline.digits.documents import Document


@dataclass(frozen=True)
class Champion(Document):
    """Which model is in service, and which may not be.

    Attributes
    ----------
    model_version : str or None
        Data version of the model in service; None while none has passed the gate.
    barred : dict
        Data versions that the gate lets through no more, and why.
    """

    model_version: str | None = None
    barred: dict[str, str] = field(default_factory=dict)
