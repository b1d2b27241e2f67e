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
    f"{PACKAGE}.assets.display",
    # what Dagster records of it, and how that is told
    f"{PACKAGE}.incremental._dagster",
    f"{PACKAGE}.assets.lineage",
    # where it is kept
    f"{PACKAGE}.artifacts",
    f"{PACKAGE}.bucket",
    f"{PACKAGE}.durable",
    f"{PACKAGE}.remote_store",
    f"{PACKAGE}.server_errors",
    f"{PACKAGE}.store",
    # their values count, for the steps that read them
    f"{PACKAGE}.params",
    f"{PACKAGE}.settings",
}

DATA = {".css", ".html", ".j2", ".js", ".svg"}
"""Suffixes of the files beside a package's `__init__.py` that are part of it."""

LIBRARIES = {
    "jinja2": "jinja2",
    "matplotlib": "matplotlib",
    "mlxtend": "mlxtend",
    "numpy": "numpy",
    "PIL": "pillow",
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
        self._minor = cache(_minor)

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
                    libraries[library] = self._minor(library)
        return sources, libraries


def _minor(library: str) -> str:
    return ".".join(version(library).split(".")[:2])


def _file(module: str) -> Path | None:
    path = PROJECT.joinpath(*module.split("."))
    candidates = path.with_suffix(".py"), path / "__init__.py"
    return next((file for file in candidates if file.is_file()), None)


def _read(file: Path) -> tuple[dict[str, str], set[str]]:
    """Digest a module, and for a package the files beside it too; also return what it imports."""
    tree = ast.parse(file.read_text("utf-8"), str(file))
    folder = file.parent.relative_to(PROJECT)
    imports = set(_imports(tree, folder.parts))  # before annotations are taken out of the tree
    content = {file: ast.unparse(_Normalised().visit(tree)).encode()}
    if file.name == "__init__.py":
        content |= {
            beside: beside.read_bytes()
            for beside in file.parent.iterdir()
            if beside.suffix in DATA and not beside.name.startswith(".")
        }
    digests = {
        path.relative_to(PROJECT).as_posix(): hashlib.sha256(data).hexdigest()
        for path, data in content.items()
    }
    return digests, imports


def _imports(tree: ast.AST, package: tuple[str, ...]) -> Iterator[str]:
    """Name every module that is imported, and the packages around it, which run too.

    Of the names that are imported from a module some are modules; the others have no file.
    """
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            around = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*around, *([node.module] if node.module else [])])
            names = [f"{module}.{alias.name}" for alias in node.names]
        for name in names:
            parts = name.split(".")
            yield from (".".join(parts[:end]) for end in range(1, len(parts) + 1))


class _Normalised(ast.NodeTransformer):
    """Without docstrings and without annotations of functions; `ast` left comments out already."""

    _in_function = False

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
        node.returns = None
        for argument in ast.walk(node.args):
            if isinstance(argument, ast.arg):
                argument.annotation = None
        return self._without_docstring(node, in_function=True)

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815 - a name that `ast` looks for

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        return self._without_docstring(node, in_function=False)

    def visit_Module(self, node: ast.Module) -> ast.AST:
        return self._without_docstring(node, in_function=False)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        if not self._in_function:
            return self.generic_visit(node)  # of a class, an annotation is a field
        if node.value is None:
            return ast.copy_location(ast.Pass(), node)
        plain = ast.Assign([node.target], node.value)
        return self.generic_visit(ast.copy_location(plain, node))

    def _without_docstring(
        self,
        node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module,
        *,
        in_function: bool,
    ) -> ast.AST:
        # bare strings do nothing, as docstrings of attributes do
        node.body = [part for part in node.body if not _is_text(part)] or [ast.Pass()]
        around, self._in_function = self._in_function, in_function
        try:
            return self.generic_visit(node)
        finally:
            self._in_function = around


def _is_text(part: ast.stmt) -> bool:
    return (
        isinstance(part, ast.Expr)
        and isinstance(part.value, ast.Constant)
        and isinstance(part.value.value, str)
    )
