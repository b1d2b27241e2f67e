"""Code versions, derived from what a step is computed with: source, params and settings, libraries.

The source is that of every module which the step reaches by imports within its own package, without
comments, docstrings, formatting, annotations of functions, and modules that only display values.
"""

import ast
import contextlib
import hashlib
import importlib.util
import json
import sys
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.metadata import Distribution, PackageNotFoundError, distributions, version
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from . import files
from .digest import content_digest

DATA = {".css", ".html", ".j2", ".js", ".svg"}
"""Suffixes of the files beside a package's `__init__.py` that are part of it."""

_ENGINE = __name__.rpartition(".")[0]
_NO_PART = {"dagster", _ENGINE.partition(".")[0]}
"""What runs a step and takes no part in its result: Dagster, and this engine's own package."""

_ABSENT = "(absent)"

_RULES = hashlib.sha256(Path(__file__).read_bytes() + sys.version.encode()).hexdigest()
"""What the normalized source depends on besides the source."""


@dataclass(frozen=True)
class CodeVersion:
    """What a step is computed with."""

    sources: Mapping[str, str]
    """Digest of the normalized source of each file that the step reaches, by its path relative to
    the folder of the package."""
    libraries: Mapping[str, str]
    """Major and minor version of each library on the way."""
    inputs: Mapping[str, Any]
    """By resource key, the params (a mapping) and settings (a value) that the step requires."""

    @cached_property
    def digest(self) -> str:
        """The code version, 32 hex digits."""
        return content_digest(self.sources, self.libraries, self.inputs)

    def changes_since(self, before: Any) -> list[str]:
        """Describe the differences from the `computed_with` of a materialization's metadata."""
        try:
            then = _flat(CodeVersion(**before))
        except (AttributeError, TypeError):
            return []  # recorded by another version of this engine
        now = _flat(self)
        return [
            _change(*name, then.get(name, _ABSENT), now.get(name, _ABSENT))
            for name in sorted(then | now)
            if then.get(name, _ABSENT) != now.get(name, _ABSENT)
        ]


class Sources:
    """The source of a package as it is on disk now; each module is read once."""

    def __init__(self, not_counted: Collection[str]) -> None:
        self._not_counted = set(not_counted)
        self._read: dict[str, tuple[dict[str, str], frozenset[str]]] = {}
        self._minor = cache(self._minor_of)

    def reached(self, module: str, file: Path) -> tuple[dict[str, str], dict[str, str]]:
        """Return `sources` and `libraries` of a `CodeVersion`: what a module reaches by imports."""
        # the folder that the module's name starts in
        root = file.resolve().parents[module.count(".") + (file.name == "__init__.py")]
        package = module.partition(".")[0]
        sources: dict[str, str] = {}
        libraries: dict[str, str] = {}
        seen, waiting = set(self._not_counted), [module]
        while waiting:
            name = waiting.pop()
            inside = f"{name}.".startswith(f"{_ENGINE}.")
            if name in seen or inside or (path := _file(root, name)) is None:
                continue
            seen.add(name)
            if name not in self._read:
                self._read[name] = _read(root, path)
            digests, imports = self._read[name]
            sources |= digests
            for other in imports:
                top = other.partition(".")[0]
                if top == package:
                    waiting.append(other)
                elif found := self._minor(top):
                    libraries |= found
        return sources, libraries

    def _minor_of(self, name: str) -> dict[str, str]:
        """Return major.minor of the distribution with a module, by its name; none of Python's."""
        if name in sys.stdlib_module_names or name in _NO_PART:
            return {}
        try:
            found = {name: version(name)}
        except PackageNotFoundError:
            found = {one: version(one) for one in _distributions(name)}
        return {one: ".".join(full.split(".")[:2]) for one, full in found.items()}


def plain(value: object) -> Any:
    """Return params or a setting as JSON-like values."""
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value


def _flat(version: CodeVersion) -> dict[tuple[str, str], Any]:
    """Return all values by kind and name, params as people write them: `model.alpha`."""
    flat: dict[tuple[str, str], Any] = {
        ("code", name): one for name, one in version.sources.items()
    }
    flat |= {("library", name): one for name, one in version.libraries.items()}
    for name, value in version.inputs.items():
        table = name.removesuffix("_params")
        if isinstance(value, Mapping):
            flat |= {("params", f"{table}.{key}"): item for key, item in value.items()}
        else:
            flat["setting", table] = value
    return flat


def _change(kind: str, name: str, before: object, now: object) -> str:
    if kind != "code":
        return f"{kind} changed: {name} {before} -> {now}"
    if before == _ABSENT:
        return f"code now used: {name}"
    return f"code {'no longer used:' if now == _ABSENT else 'changed in'} {name}"


def _file(root: Path, module: str) -> Path | None:
    path = root.joinpath(*module.split("."))
    candidates = path.with_suffix(".py"), path / "__init__.py"
    return next((file for file in candidates if file.is_file()), None)


def _read(root: Path, file: Path) -> tuple[dict[str, str], frozenset[str]]:
    """Digest a module, and for a package the files beside it too; also return what it imports."""
    folder = file.parent.relative_to(root)
    code, imports = _parsed(file.read_text("utf-8"), str(file), folder.parts)
    digests = {file.relative_to(root).as_posix(): code}
    if file.name == "__init__.py":
        digests |= {
            beside.relative_to(root).as_posix(): files.sha256(beside)
            for beside in file.parent.iterdir()
            if beside.suffix in DATA and not beside.name.startswith(".")
        }
    return digests, imports


def _parsed(source: str, file: str, package: tuple[str, ...]) -> tuple[str, frozenset[str]]:
    """Return the digest of the normalized source of a module, and what it imports.

    Both are kept beside Python's own compiled file: to parse all modules takes half a second.
    """
    key = content_digest(source, ".".join(package), _RULES)
    kept = Path(importlib.util.cache_from_source(file)).with_suffix(".source")
    with contextlib.suppress(OSError, ValueError):
        if (found := json.loads(kept.read_bytes()))["key"] == key:
            return found["code"], frozenset(found["imports"])
    tree = ast.parse(source, file)
    imports = frozenset(_imports(tree, package))  # before annotations are taken out of the tree
    code = files.sha256(ast.unparse(_normalized(tree)).encode())
    new = files.temporary(kept)
    with contextlib.suppress(OSError):  # in a folder that cannot be written nothing is kept
        new.parent.mkdir(exist_ok=True)
        new.write_text(json.dumps({"key": key, "code": code, "imports": sorted(imports)}))
        new.replace(kept)
    return code, imports


@cache
def _distributions(module: str) -> list[str]:
    """Return the installed distributions with a module of another name than theirs."""
    own = f"\n{module}/", f"\n{module}.py,"
    found = [one for one, files in _installed() if any(start in files for start in own)]
    return sorted(one.name for one in found)


@cache
def _installed() -> list[tuple[Distribution, str]]:
    """Return the installed distributions, each with the list of its files."""
    # `packages_distributions` parses all lists: 20 times as long
    return [(one, "\n" + (one.read_text("RECORD") or "")) for one in distributions()]


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


def _normalized(tree: ast.Module) -> ast.Module:
    """Remove docstrings and annotations of functions; `ast` left comments out already."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.returns = None
            for argument in ast.walk(node.args):
                if isinstance(argument, ast.arg):
                    argument.annotation = None
            _Locals().generic_visit(node)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module):
            # bare constants do nothing, as docstrings of attributes do
            node.body = [
                part
                for part in node.body
                if not (isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant))
            ] or [ast.Pass()]
    return tree


class _Locals(ast.NodeTransformer):
    """Removes annotations of local variables; in a class they define fields."""

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        plain = ast.Assign([node.target], node.value) if node.value else ast.Pass()
        return ast.copy_location(plain, node)
