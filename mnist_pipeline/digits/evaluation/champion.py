"""The champion: which model is in use, and past decisions about that. `promotion` decides."""

from dataclasses import dataclass, field

from mnist_pipeline.digits.documents import Document


@dataclass(frozen=True)
class Champion(Document):
    """Which model is the champion, and which are blocked.

    `model_version` is the champion's data version, None while no model has passed the gate;
    `blocked` are data versions that cannot be promoted, and why.
    """

    model_version: str | None = None
    blocked: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Past:
    """A past decision, with its run and its time (seconds since 1970).

    `candidate` is the data version of the model that was decided on, `accuracy` its accuracy on its
    validation rows (None where they were not compared).
    """

    timestamp: float
    run_id: str
    outcome: str
    why: str
    candidate: str
    champion: Champion
    accuracy: float | None
