"""The source that a step reaches by following imports, digested without what is only said.

Comments, docstrings, formatting and annotations of functions do not count; class bodies do.
"""

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import version
from pathlib import Path

from mnist_pipeline.settings import PROJECT

PACKAGE = "mnist_pipeline"

NOT_COUNTED = {
    # how a value shows, not what it is
    f"{PACKAGE}.orchestration.presentation",
    # what Dagster records of it
    f"{PACKAGE}.orchestration.provenance",
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


class Sources:
    """The project's source as it is on disk now. A module is read once, whoever reaches it."""

    def __init__(self) -> None:
        self._read: dict[str, tuple[dict[str, str], set[str]]] = {}

    def reached(self, start: str) -> tuple[dict[str, str], dict[str, str]]:
        """Digest every module that `start` reaches, and name the libraries met on the way.

        Returns
        -------
        sources : dict
            Digest of the normalised source, by file (relative to the project).
        libraries : dict
            Major and minor version, by name of the installed library.
        """
        sources: dict[str, str] = {}
        libraries: dict[str, str] = {}
        seen, waiting = set(NOT_COUNTED), [start]
        while waiting:
            module = waiting.pop()
            if module in seen or (file := _file(module)) is None:
                continue
            seen.add(module)
            if module not in self._read:
                self._read[module] = _read(file)
            digests, imports = self._read[module]
            sources |= digests
            for name in imports:
                if name.partition(".")[0] == PACKAGE:
                    waiting.append(name)
                elif library := LIBRARIES.get(name.partition(".")[0]):
                    libraries[library] = _minor(library)
        return sources, libraries


@cache
def _minor(library: str) -> str:
    return ".".join(version(library).split(".")[:2])


def _file(module: str) -> Path | None:
    path = PROJECT.joinpath(*module.split("."))
    candidates = path.with_suffix(".py"), path / "__init__.py"
    return next((file for file in candidates if file.is_file()), None)


def _read(file: Path) -> tuple[dict[str, str], set[str]]:
    """Digest a module, and for a package the files beside it too; also return what it imports."""
    tree = ast.parse(file.read_text("utf-8"), str(file))
    imports = set(_imports(tree))  # before annotations are taken out of the tree
    content = {file: ast.unparse(_Normalised().visit(tree)).encode()}
    if file.name == "__init__.py":
        # templates, stylesheets
        content |= {
            beside: beside.read_bytes()
            for beside in file.parent.iterdir()
            if beside.is_file() and beside.suffix not in {".py", ".pyc", ".typed"}
        }
    digests = {
        path.relative_to(PROJECT).as_posix(): hashlib.sha256(data).hexdigest()
        for path, data in content.items()
    }
    return digests, imports


def _imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            # of these names, some are modules and the others are skipped: they have no file
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


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
