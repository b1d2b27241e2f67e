"""What a model is, what it is for, and where it is likely to be wrong: every card has it."""

from mnist_pipeline.digits.data.dataset import Origin
from mnist_pipeline.digits.evaluation.metrics import Evaluation
from mnist_pipeline.digits.model.pipeline import TrainedModel
from mnist_pipeline.digits.sources.source import Source

_FEATURES = {
    "raw": "raw pixels",
    "scaled": "pixels from 0 to 1",
    "gradients": "pooled gradient orientations of deskewed images",
    "kernel": "a Nystroem kernel map of pooled gradient orientations of deskewed images",
}


def data_name(source: Source, origin: Origin) -> str:
    """Return what to call the data; not by its name where it is not what the source promises."""
    return source.card.name if source.keeps_promise(origin) else f"Not {source.card.name}"


def data_text(source: Source, origin: Origin) -> str:
    """Return what the data are, and their licence."""
    text = f"{source.card.description} {source.card.licence}"
    if source.keeps_promise(origin):
        return text
    return (
        f"{data_name(source, origin)}: the source {origin.source} served other images than it "
        f"promises. It promises: {text}"
    )


def sections(source: Source, model: TrainedModel, evaluation: Evaluation) -> list[tuple[str, str]]:
    """Return titles and texts; what is code in a text is between backticks."""
    card, noun, origin, width = source.card, source.noun, model.origin, model.width
    as_promised = source.keeps_promise(origin)
    use = f"{card.use} in the manner of {card.name}" if as_promised else "Images like its own"
    return [
        (
            "What it is",
            "A scikit-learn pipeline that ends in a linear `SGDClassifier`, on "
            f"{_FEATURES[model.params['features']]}.",
        ),
        (
            "What it is for",
            f"{use}: {width} x {width} pixels, upright, centred; for learning how such a pipeline "
            "is built and kept. Pictures of other sizes go through `mnist-pipeline predict`, which "
            "prepares them so.",
        ),
        (
            "What it is not for",
            f"{card.not_use} It names one of ten classes for anything that it is shown.",
        ),
        ("Data and licence", data_text(source, origin)),
        ("Limits", card.limits),
        ("How it was evaluated", _evaluated(noun, model, evaluation)),
    ]


def _evaluated(noun: str, model: TrainedModel, evaluation: Evaluation) -> str:
    text = (
        f"On {evaluation.n_test:,} test {noun}s that took no part in fitting, and in choosing only "
        "so far as a model must reach a floor on them to be promoted. "
    )
    if model.validated:
        text += (
            "Params, the end of the fit, calibration and the champion were chosen on "
            f"{len(model.validated.row_id):,} rows held out of the training {noun}s "
            f"({model.validated.accuracy:.2%} right)."
        )
    else:
        text += (
            f"All training {noun}s were fitted, as the tutorial does: nothing is held out, so this "
            "model can never be champion."
        )
    return f"{text} The interval of the accuracy is Wilson\N{RIGHT SINGLE QUOTATION MARK}s."
