"""Cards as files: of a model in Hugging Face's format, of its data in Croissant's.

They hold no time and no path: the same results give the same bytes.

https://huggingface.co/docs/hub/model-cards
https://docs.mlcommons.org/croissant/docs/croissant-spec.html
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mnist_pipeline.digits.data.dataset import columns
from mnist_pipeline.digits.evaluation.metrics import Evaluation
from mnist_pipeline.digits.model.pipeline import TrainedModel
from mnist_pipeline.digits.report import about
from mnist_pipeline.digits.sources import registry
from mnist_pipeline.digits.sources.source import Source

_TERMS = (
    "citeAs column equivalentProperty extract field fileObject fileProperty fileSet format "
    "includes isLiveDataset jsonPath key md5 parentField path recordSet references regex repeated "
    "replace samplingRate separator source subField transform"
)
"""Names that Croissant's vocabulary has as they are."""

_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "rai": "http://mlcommons.org/croissant/RAI/",
    "sc": "https://schema.org/",
    **{term: f"cr:{term}" for term in _TERMS.split()},
}
"""That of the specification: readers warn of another."""

_LOAD = """\
```python
from pathlib import Path

from mnist_pipeline.digits.model import persistence

model = persistence.loads(Path("{file}").read_bytes())
scores = model.scores(pixels)  # uint8 of shape (n, {pixels}), 0 is paper
```
"""


@dataclass(frozen=True)
class Listed:
    """A file of a folder: its name, SHA-256 and size in bytes; of a split, its data version."""

    name: str
    sha256: str
    size: int
    version: str


def model_card(
    model: TrainedModel,
    evaluation: Evaluation,
    file: Listed,
    test_version: str,
    computed_with: Mapping[str, str],
) -> str:
    """Return the card of an evaluated model: YAML and Markdown.

    `file` is the model's, `computed_with` has the versions of the libraries that computed it.
    """
    import yaml

    source, width = registry.by_name(model.origin.source), model.width
    name = about.data_name(source, model.origin)
    title = f"{name}: preset {model.params['preset']}"
    split = {"test_size": model.origin.test_size, "random_state": model.origin.random_state}
    result = {
        "task": {"type": "image-classification"},
        "dataset": {
            "type": source.name,
            "name": name,
            "split": "test",
            "revision": test_version,
            "args": split,
        },
        "metrics": list(_metrics(evaluation)),
    }
    front = {
        "library_name": "sklearn",
        "pipeline_tag": "image-classification",
        "tags": ["sklearn", "skops", "image-classification", source.name],
        "model_format": "skops",
        "model_file": file.name,
        "metrics": ["accuracy"],
        "model-index": [{"name": title, "results": [result]}],
    }
    text = yaml.safe_dump(front, sort_keys=False, allow_unicode=True, width=1000)
    lines = ["---", text + "---", "", f"# {title}"]
    for heading, words in about.sections(source, model, evaluation):
        lines += ["", f"## {heading}", "", words]
    lines += ["", "## Use", "", _LOAD.format(file=file.name, pixels=width**2).rstrip()]
    lines += ["", "## Numbers", "", *_numbers(source, evaluation)]
    lines += ["", "## Where it comes from", "", "| | |", "|---|---|"]
    origin = {
        "model": model.data_version,
        "SHA-256 of its file": file.sha256,
        "training set": model.train_version,
        "test set": test_version,
        "predictions": evaluation.predictions_version,
        "data": model.origin.described(source.noun),
        "split": ", ".join(f"{key} {value}" for key, value in split.items()),
        "libraries": ", ".join(f"{key} {value}" for key, value in sorted(computed_with.items())),
    }
    lines += [f"| {key} | {value} |" for key, value in origin.items()]
    lines += ["", "| param | value |", "|---|---|"]
    lines += [f"| `{key}` | `{value}` |" for key, value in model.params.items()]
    return "\n".join(lines) + "\n"


def _metrics(evaluation: Evaluation) -> Iterator[dict[str, Any]]:
    names = {"log_loss": "log loss", "brier": "Brier score", "ece": "expected calibration error"}
    low, high = evaluation.accuracy_interval
    yield {
        "type": "accuracy",
        "value": evaluation.accuracy,
        "name": f"accuracy (95% interval {low:.4f} to {high:.4f})",
    }
    for key, name in names.items():
        if (value := getattr(evaluation, key)) is not None:
            yield {"type": key, "value": value, "name": name}


def _numbers(source: Source, evaluation: Evaluation) -> Iterator[str]:
    low, high = evaluation.accuracy_interval
    yield (
        f"{evaluation.accuracy:.2%} of {evaluation.n_test:,} test {source.noun}s right, 95% "
        f"interval {low:.2%} to {high:.2%}."
    )
    yield from ("", f"| {source.noun} | precision | recall | F1 | test {source.noun}s |")
    yield "|---|---|---|---|---|"
    for name, one in zip(source.class_names, evaluation.per_class.values(), strict=True):
        shares = " | ".join(f"{one[key]:.2%}" for key in ("precision", "recall", "f1"))
        yield f"| {name} | {shares} | {one['support']:,} |"


def data_card(model: TrainedModel, train: Listed, test: Listed) -> str:
    """Return the card of the two splits of a model's data, as JSON-LD."""
    source = registry.by_name(model.origin.source)
    card, width, origin = source.card, model.width, model.origin
    facts = {
        "license": card.licence_url or card.licence,
        "url": card.url,
        "creator": [{"@type": "sc:Person", "name": name} for name in card.creators],
        "datePublished": card.published,
    }
    if not source.keeps_promise(origin):
        facts = {}
    document = {
        "@context": dict(sorted(_CONTEXT.items())),
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": f"{about.data_name(source, origin)}: {origin.described(source.noun)}",
        "description": (
            f"{about.data_text(source, origin)} {width} x {width} pixels, row by row from the top "
            f"left, 0 is paper. Split by train_test_split, test_size {origin.test_size}, "
            f"random_state {origin.random_state}."
        ),
        **{key: value for key, value in facts.items() if value},
        "isLiveDataset": False,
        "distribution": [_file(train), _file(test)],
        "recordSet": [_classes(source), *(_records(one, width) for one in (train, test))],
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _file(one: Listed) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": one.name,
        "name": one.name,
        "description": f"Data version {one.version}.",
        "contentUrl": one.name,
        "contentSize": f"{one.size} B",
        "encodingFormat": "application/x-parquet",
        "sha256": one.sha256,
    }


def _classes(source: Source) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": "classes",
        "name": "classes",
        "dataType": "sc:Enumeration",
        "key": {"@id": "classes/label"},
        "field": [
            _field("classes/label", "sc:Integer", "The class as a number."),
            _field("classes/name", "sc:Text", "Its name."),
        ],
        "data": [
            {"classes/label": label, "classes/name": name}
            for label, name in enumerate(source.class_names)
        ],
    }


def _records(one: Listed, width: int) -> dict[str, Any]:
    name = one.name.partition(".")[0]
    meanings = {"row_id": "Row of the source's file, from 0.", "class": "What the image shows."}
    fields = []
    for column in columns(width**2):
        field = _field(f"{name}/{column}", "sc:Integer", meanings.get(column, "A grey value."))
        field["source"] = {"fileObject": {"@id": one.name}, "extract": {"column": column}}
        if column == "class":
            field["references"] = {"field": {"@id": "classes/label"}}
        fields.append(field)
    return {"@type": "cr:RecordSet", "@id": name, "name": name, "field": fields}


def _field(name: str, kind: str, text: str) -> dict[str, Any]:
    return {"@type": "cr:Field", "@id": name, "name": name, "description": text, "dataType": kind}
