"""The report: one self-contained HTML file about one model, from the template beside."""

import base64
from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np

from mnist_pipeline.digits import figures
from mnist_pipeline.digits.champion import Champion
from mnist_pipeline.digits.classifier import TrainedModel
from mnist_pipeline.digits.dataset import Digits
from mnist_pipeline.digits.digests import content_digest
from mnist_pipeline.digits.metrics import Evaluation
from mnist_pipeline.digits.prediction import Predictions
from mnist_pipeline.digits.verdict import Verdict


@dataclass(frozen=True)
class Report:
    """A page to look at."""

    html: str

    @cached_property
    def data_version(self) -> str:
        """Digest of the page."""
        return content_digest(self.html)


@dataclass(frozen=True)
class Evidence:
    """Everything a report is made from, about one model."""

    train: Digits
    test: Digits
    model: TrainedModel
    predictions: Predictions
    evaluation: Evaluation
    champion: Champion


def render(evidence: Evidence) -> Report:
    """Fill the template: the numbers, the confusion matrix and the tutorial's three pictures."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader(__name__, package_path=""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    evaluation = evidence.evaluation
    html = environment.get_template("page.html.j2").render(
        asdict(evaluation),
        champion=evidence.champion,
        model=evidence.model,
        n_train=len(evidence.train),
        train_version=evidence.train.data_version,
        test_version=evidence.test.data_version,
        pictures=_data_url(_tutorial_pictures(evidence)),
        confusion=_data_url(figures.confusion_matrix(evaluation.confusion_matrix, inches=5.5)),
    )
    return Report(html)


def one_model(evidence: Evidence) -> Verdict:
    """All parts of the evidence are about the same model and the same split."""
    version = evidence.model.data_version
    versions = {
        "predictions": evidence.predictions.model_version,
        "evaluation": evidence.evaluation.model_version,
    }
    origins = {
        "train_set": evidence.train.origin,
        "test_set": evidence.test.origin,
        "predictions": evidence.predictions.origin,
    }
    other = [asset for asset, found in versions.items() if found != version]
    other += [asset for asset, found in origins.items() if found != evidence.model.origin]
    if other:
        saw = f"{', '.join(other)} are not of sgd_model {version}: materialize them first"
    else:
        saw = f"all inputs are of model {version} and its split"
    return Verdict("one_model", not other, saw)


def _tutorial_pictures(evidence: Evidence) -> bytes:
    train, test, predictions = evidence.train, evidence.test, evidence.predictions
    shown = range(min(2, len(test), len(predictions.label)))
    titles = [f"training digit\nlabel {train.labels[0]}"]
    titles += [
        f"test digit\nlabel {predictions.label[row]}, predicted {predictions.prediction[row]}"
        for row in shown
    ]
    images = np.concatenate([train.pixels[:1], test.pixels[: len(shown)]])
    return figures.digit_row(images, titles)


def _data_url(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()
