"""The generated pages of the reference: command line, assets, `params.toml`, Python API.

`python -m mnist_pipeline_tests.support.reference` writes them into `docs/`; a test compares them.
"""

import ast
import importlib
import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from mnist_pipeline import incremental
from mnist_pipeline.assets import experiments, own
from mnist_pipeline.cli.main import cli
from mnist_pipeline.config.params import Params
from mnist_pipeline.config.settings import PROJECT, Settings
from mnist_pipeline.definitions import build
from mnist_pipeline.digits.params import PRESETS, ModelParams, Table

DOCS = PROJECT / "docs"
NOTICE = "<!-- written by python -m mnist_pipeline_tests.support.reference -->"
END = "<!-- end -->"

STEPS = [
    "mnist_pipeline.digits.sources.sample.read",
    "mnist_pipeline.digits.sources.formats.decode",
    "mnist_pipeline.digits.data.split.split",
    "mnist_pipeline.digits.data.validation.hold_out",
    "mnist_pipeline.digits.model.training.fit",
    "mnist_pipeline.digits.model.prediction.predict",
    "mnist_pipeline.digits.evaluation.metrics.evaluate",
]
"""What a notebook needs of `mnist_pipeline.digits`."""


def row(*cells: str) -> str:
    """Return a row of a table."""
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def table(*heads: str) -> list[str]:
    """Return the head of a table."""
    return [row(*heads), "|---" * len(heads) + "|"]


def generated(page: str, lines: list[str]) -> str:
    """Return a page with other lines between its marks, and the prose around them as it is."""
    before, start, rest = page.partition(f"{NOTICE}\n")
    return before + start + "\n".join([*lines, "", END]) + rest.partition(END)[2]


def command_line(page: str) -> str:
    """Return the page of the command line, each command as it describes itself."""
    lines = ["", *_command(cli, "mnist-pipeline")]
    for name, command in sorted(cli.commands.items()):
        lines += ["", f"### {name}", "", *_command(command, f"mnist-pipeline {name}")]
    return generated(page, lines)


def _command(command: click.Command, name: str) -> Iterator[str]:
    context = click.Context(command, info_name=name, help_option_names=["-h", "--help"])
    yield "```text"
    yield " ".join([name, *command.collect_usage_pieces(context)])
    yield "```"
    yield from ("", inspect.cleandoc(command.help or ""))
    records = [one.get_help_record(context) for one in command.get_params(context)]
    known = [one for one in records if one and one[1]]
    if command is not cli:
        known = [one for one in known if not one[0].startswith(("--debug", "-h"))]
    if known:
        yield from ("", *table("option", "meaning"))
    for option, meaning in known:
        yield row(f"`{option}`", meaning)


def params(page: str) -> str:
    """Return the page of the params: all of it but prose and meanings from the code."""
    meanings = dict(re.findall(r"^\| `(\S+\.\S+)` \|.*\| (.*) \|$", page, re.MULTILINE))
    lines: list[str] = []
    for name, field in Params.model_fields.items():
        kind = field.annotation
        if not (isinstance(kind, type) and issubclass(kind, Table)):
            continue
        limits = kind.model_json_schema()["properties"]
        default = kind()
        heads = [] if kind is ModelParams else ["default"]
        lines += ["", f"## {name}", "", *table("key", *heads, "allowed", "meaning")]
        for key, limit in limits.items():
            full, values = f"{name}.{key}", [_written(getattr(default, key)) for _ in heads]
            lines.append(row(f"`{full}`", *values, _allowed(limit), meanings.get(full, "")))
        if kind is ModelParams:
            lines += ["", "### Values of the presets", "", *table("key", *PRESETS)]
            models = [kind.model_validate({"preset": one}) for one in PRESETS]
            for key in [one for one in limits if one != "preset"]:
                lines.append(row(f"`{key}`", *(_written(getattr(one, key)) for one in models)))
    return generated(page, lines)


def _written(value: Any) -> str:
    """Return a value as TOML has it."""
    match value:
        case bool():
            return str(value).lower()
        case tuple():
            return f"[{', '.join(map(str, value))}]"
        case str():
            return f"`{value}`"
        case _:
            return str(value)


def _allowed(limits: Mapping[str, Any]) -> str:
    """Return what a key may be, from its JSON schema."""
    if "enum" in limits:
        return ", ".join(f"`{one}`" for one in limits["enum"])
    if limits["type"] == "array":
        count = f"{limits['minItems']} to {limits['maxItems']} numbers"
        return f"{count}, each {_allowed(limits['items'])}"
    if limits["type"] == "boolean":
        return "true, false"
    words = {
        "minimum": "at least",
        "exclusiveMinimum": "above",
        "maximum": "at most",
        "exclusiveMaximum": "below",
    }
    return ", ".join(f"{word} {limits[name]}" for name, word in words.items() if name in limits)


def assets() -> str:
    """Return the page of the assets and their checks, from their declarations."""
    settings = Settings.load(MNIST_SOURCE="sample", MNIST_DATA_DIR="s3://bucket/prefix")
    named = [one for one in build(settings).assets if one not in own.ASSETS]
    lines = ["# Assets and checks", "", NOTICE, "", *table("asset", "computed from", "file")]
    sections: list[str] = []
    for one in [*named, *experiments.assets({"NAME": ModelParams()})]:
        file = one.codec.filename if isinstance(one.codec.filename, str) else ""
        inputs = ", ".join(f"`{key.to_user_string()}`" for key in one.deps)
        lines.append(row(f"`{one.name}`", inputs, f"`{file}`" if file else "the source's own name"))
        text = one.options.get("description") or inspect.getdoc(one.step) or ""
        sections += ["", f"## {one.name}", "", text, ""]
        sections += table("check", "if it fails", "what is checked")
        for check in one.check_specs:
            effect = "nothing is published" if check.blocking else "warning"
            what = " ".join((check.description or "").split())
            sections.append(row(f"`{check.name}`", effect, what))
    lines += [
        "",
        "Files are at `<asset>/<sha256 of the file>/<file>` in `MNIST_DATA_DIR`. The check",
    ]
    lines += ["`file_is_intact` of each asset is a step of its own, the last one of a run.", ""]
    lines += ["[architecture.md](architecture.md#checks) describes when checks run."]
    return "\n".join([*lines, *sections]) + "\n"


def python_api() -> str:
    """Return the page of the Python API, from signatures and docstrings."""
    lines = ["# Python API", "", NOTICE, "", "## mnist_pipeline.incremental", ""]
    lines += _docstring(incremental.__doc__ or "")
    for name in incremental.__all__:
        value = getattr(incremental, name)
        if inspect.ismodule(value):
            public = [one for one in _definitions(value) if isinstance(one, ast.FunctionDef)]
            for one in public:
                lines += _function(one, _source(value), f"{name}.{one.name}", "###")
        else:
            lines += _entry(inspect.getmodule(value), name, name)
    lines += ["", "## mnist_pipeline.digits", "", "The steps, as a notebook calls them"]
    lines[-1] += " ([architecture.md](architecture.md) has an example)."
    for dotted in STEPS:
        module, _, name = dotted.rpartition(".")
        lines += _entry(importlib.import_module(module), name, dotted.split(".", 2)[2])
    return "\n".join(lines) + "\n"


def _source(module: Any) -> list[str]:
    return inspect.getsource(module).splitlines()


def _definitions(module: Any) -> list[ast.FunctionDef | ast.ClassDef]:
    body = ast.parse(inspect.getsource(module)).body
    kinds = (ast.FunctionDef, ast.ClassDef)
    return [one for one in body if isinstance(one, kinds) and not one.name.startswith("_")]


def _entry(module: Any, name: str, title: str) -> Iterator[str]:
    [node] = [one for one in _definitions(module) if one.name == name]
    if isinstance(node, ast.FunctionDef):
        yield from _function(node, _source(module), title, "###")
        return
    yield from ("", f"### {title}", "", *_docstring(ast.get_docstring(node) or ""), "")
    yield from _attributes(node)
    for one in node.body:
        if isinstance(one, ast.FunctionDef) and one.name[0] != "_" and not _is_property(one):
            yield from _function(one, _source(module), f"{title}.{one.name}", "####")


def _is_property(node: ast.FunctionDef) -> bool:
    return any("property" in ast.unparse(one) for one in node.decorator_list)


def _attributes(node: ast.ClassDef) -> Iterator[str]:
    """Yield a line for each field, with the text after it, and for each property."""
    for one, following in zip(node.body, [*node.body[1:], None], strict=True):
        if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name):
            text = ""
            if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
                text = str(following.value.value)
            yield _attribute(one.target.id, one.annotation, text)
        elif isinstance(one, ast.FunctionDef) and _is_property(one) and one.name[0] != "_":
            yield _attribute(one.name, one.returns, ast.get_docstring(one) or "")


def _attribute(name: str, kind: ast.expr | None, text: str) -> str:
    annotated = f"`{name}: {ast.unparse(kind)}`" if kind else f"`{name}`"
    return f"- {annotated}. {' '.join(text.split())}".rstrip()


def _function(node: ast.FunctionDef, source: list[str], title: str, level: str) -> Iterator[str]:
    signature = source[node.lineno - 1 : node.body[0].lineno - 1]
    shown = textwrap.dedent("\n".join(signature)) + " ..."
    yield from ("", f"{level} {title}", "", "```python", shown, "```", "")
    yield from _docstring(ast.get_docstring(node) or "")


def _docstring(text: str) -> list[str]:
    """Return a docstring as Markdown: a list of the entries of each section."""
    # numpy's sections are underlined, as headings of Markdown are
    plain, *sections = re.split(r"\n*^(\w+)\n-+\n", text, flags=re.MULTILINE)
    lines = plain.splitlines()
    for head, body in zip(sections[::2], sections[1::2], strict=True):
        lines += ["", f"{head}:", ""]
        for name, meaning in re.findall(r"^(\S.*)\n((?:    .*\n?|\n)*)", body, re.MULTILINE):
            lines.append(f"- `{name}`. {' '.join(meaning.split())}".rstrip())
    return lines


def pages() -> dict[Path, str]:
    """Return the generated pages as they should be."""
    commands, keys = DOCS / "command-line.md", DOCS / "params.md"
    return {
        commands: command_line(commands.read_text()),
        keys: params(keys.read_text()),
        DOCS / "assets.md": assets(),
        DOCS / "api.md": python_api(),
    }


if __name__ == "__main__":
    for file, text in pages().items():
        file.write_text(text)
