"""Code versions, derived from what a step reaches: its source, its params, its libraries.

Nobody types a version: a step whose code, guards, params or libraries changed is stale in the UI.
"""

import ast
import hashlib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path

import dagster as dg
from pydantic import BaseModel

from mnist_pipeline.digits.digests import content_digest
from mnist_pipeline.settings import PROJECT

PACKAGE = "mnist_pipeline"

NOT_COUNTED = {
    # how a value shows, not what it is
    f"{PACKAGE}.orchestration.presentation",
    # where it is kept
    f"{PACKAGE}.store",
    # their values count, for the steps that read them
    f"{PACKAGE}.params",
    f"{PACKAGE}.settings",
}

LIBRARIES = {
    "jinja2": "jinja2",
    "matplotlib": "matplotlib",
    "mlxtend": "mlxtend",
    "numpy": "numpy",
    "pyarrow": "pyarrow",
    "scipy": "scipy",
    "sklearn": "scikit-learn",
    "skops": "skops",
}
"""Import names of the libraries that shape results, and what they are installed as."""


def versioned(asset: dg.AssetsDefinition, inputs: Mapping[str, object]) -> dg.AssetsDefinition:
    """Give an asset the code version of its step.

    Parameters
    ----------
    asset : AssetsDefinition
    inputs : mapping
        By resource key, the params and settings that results depend on. Those that the step
        requires count.
    """
    read = {
        key: value.model_dump() if isinstance(value, BaseModel) else value
        for key, value in sorted(inputs.items())
        if key in asset.required_resource_keys
    }
    step = asset.op.compute_fn.decorated_fn  # type: ignore[union-attr]
    sources, libraries = _reached(step.__module__)
    digest = content_digest(sources, libraries, read)
    return asset.map_asset_specs(lambda spec: spec.replace_attributes(code_version=digest))


@cache
def _reached(start: str) -> tuple[dict[str, str], dict[str, str]]:
    """Digest every module that `start` reaches, and name the libraries met on the way."""
    sources: dict[str, str] = {}
    libraries: dict[str, str] = {}
    waiting = [start]
    while waiting:
        module = waiting.pop()
        file = _file(module)
        if module in sources or module in NOT_COUNTED or file is None:
            continue
        tree = ast.parse(file.read_text("utf-8"))
        for name in _imports(tree):
            if name.partition(".")[0] == PACKAGE:
                waiting.append(name)
            elif library := LIBRARIES.get(name.partition(".")[0]):
                libraries[library] = ".".join(version(library).split(".")[:2])
        sources[module] = _digest(file, tree)
    return sources, libraries


def _file(module: str) -> Path | None:
    path = PROJECT.joinpath(*module.split("."))
    candidates = path.with_suffix(".py"), path / "__init__.py"
    return next((file for file in candidates if file.is_file()), None)


def _imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            # of these names, some are modules and the others are skipped: they have no file
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _digest(file: Path, tree: ast.Module) -> str:
    digest = hashlib.sha256(ast.unparse(_Normalised().visit(tree)).encode())
    if file.name == "__init__.py":
        # a package is also the files beside it: templates, stylesheets
        for beside in sorted(file.parent.iterdir()):
            if beside.is_file() and beside.suffix not in {".py", ".pyc", ".typed"}:
                digest.update(beside.name.encode() + b"\0" + beside.read_bytes())
    return digest.hexdigest()


class _Normalised(ast.NodeTransformer):
    """Without docstrings and without annotations of functions; `ast` left comments out already."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        for argument in ast.walk(node.args):
            if isinstance(argument, ast.arg):
                argument.annotation = None
        return self._without_docstring(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        return self._without_docstring(node)

    def visit_Module(self, node: ast.Module) -> ast.AST:
        return self._without_docstring(node)

    def _without_docstring(self, node: ast.FunctionDef | ast.ClassDef | ast.Module) -> ast.AST:
        # bare strings do nothing, as docstrings of attributes do
        node.body = [part for part in node.body if not _is_text(part)] or [ast.Pass()]
        return self.generic_visit(node)


def _is_text(part: ast.stmt) -> bool:
    return (
        isinstance(part, ast.Expr)
        and isinstance(part.value, ast.Constant)
        and isinstance(part.value.value, str)
    )
