"""The settings that classes take, read from their source: no class is imported, and so neither is torch.

A constructor's arguments are settings; one whose type is a dataclass has the fields of that dataclass below it.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple, TypeAlias


class Plain(NamedTuple):
    """What a setting takes, where its type says all of it.

    Attributes:
        words: of a `Literal`.
        kinds: `int`, `float`, `bool`; null may stand beside all.
    """

    words: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()


Settings: TypeAlias = "dict[str, Settings | Plain | None]"
"""Names of settings, with those below or what they take; None where anything may stand below, or nothing."""

_KINDS = ("int", "float", "bool")


def settings_of(module: str, name: str) -> Settings:
    """Return the settings of a class: the arguments of its constructor, or the fields of a dataclass.

    Args:
        module: where the class is defined, or imported from.
        name: of the class.

    >>> settings_of("mmood.data.settings", "ValSettings")
    {'id': None, 'ood': None}
    >>> settings_of("mmood.loading.settings", "LoaderSettings")["on_error"]
    Plain(words=('raise', 'skip'), kinds=())
    """
    place, found = _class(module, name)
    annotated = _fields(place, found) if _is_dataclass(found) else _arguments(_method(place, found, "__init__"))
    return {setting: _below(place, annotation) or _plain(place, annotation) for setting, annotation in annotated}


def arguments_of(module: str, name: str, method: str) -> list[str]:
    """Return the names of the arguments of a method, without `self`."""
    place, found = _class(module, name)
    return [argument for argument, _ in _arguments(_method(place, found, method))]


@cache
def exported(package: str) -> Mapping[str, str]:
    """Return the names that a package imports from its own modules, and from which."""
    return {name: module for name, module in _imports(package).items() if module.startswith(f"{package}.")}


def _class(module: str, name: str) -> tuple[str, ast.ClassDef]:
    """Return a class and the module that defines it."""
    for node in _tree(module).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return module, node
    return _class(_imports(module)[name], name)


def _method(module: str, owner: ast.ClassDef, name: str) -> ast.FunctionDef:
    for node in owner.body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return node
    parents = [parent.id for parent in owner.bases if isinstance(parent, ast.Name)]
    return _method(*_class(module, parents[0]), name)


def _arguments(function: ast.FunctionDef) -> Iterator[tuple[str, ast.expr | None]]:
    for argument in (*function.args.args[1:], *function.args.kwonlyargs):
        yield argument.arg, argument.annotation


def _fields(module: str, found: ast.ClassDef) -> Iterator[tuple[str, ast.expr | None]]:
    for parent in found.bases:
        if isinstance(parent, ast.Name) and _is_ours(module, parent.id):
            yield from _fields(*_class(module, parent.id))
    for node in found.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id, node.annotation


def _below(module: str, annotation: ast.expr | None) -> Settings | None:
    """Return the settings below one, if its type is a dataclass of ours, or that or None."""
    plain = annotation
    if isinstance(plain, ast.BinOp) and isinstance(plain.right, ast.Constant) and plain.right.value is None:
        plain = plain.left
    if not isinstance(plain, ast.Name) or not _is_ours(module, plain.id):
        return None
    place, found = _class(module, plain.id)
    return settings_of(place, found.name) if _is_dataclass(found) else None


def _plain(module: str, annotation: ast.expr | None) -> Plain | None:
    """Return what a type of words, numbers and null takes, names of such types followed; None for any other type."""
    match annotation:
        case ast.Constant(value=None):
            return Plain()
        case ast.Name(id=name) if name in _KINDS:
            return Plain(kinds=(name,))
        case ast.Name(id=name):
            return _alias(module, name)
        case ast.Subscript(value=ast.Name(id="Literal"), slice=within):
            listed = within.elts if isinstance(within, ast.Tuple) else [within]
            return Plain(tuple(str(value.value) for value in listed if isinstance(value, ast.Constant)))
        case ast.Subscript(value=ast.Name(id="Optional"), slice=within):
            return _plain(module, within)
        case ast.Subscript(value=ast.Name(id="Union"), slice=ast.Tuple(elts=members)):
            return _any_of(module, members)
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _any_of(module, [left, right])
    return None


def _any_of(module: str, members: list[ast.expr]) -> Plain | None:
    found = [_plain(module, member) for member in members]
    sure = [plain for plain in found if plain is not None]
    if len(sure) < len(found):
        return None
    words = dict.fromkeys(word for plain in sure for word in plain.words)
    return Plain(tuple(words), tuple(dict.fromkeys(kind for plain in sure for kind in plain.kinds)))


def _alias(module: str, name: str) -> Plain | None:
    """Return what the type takes that a module calls by this name."""
    for node in _tree(module).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            return _plain(module, node.value)
    origin = _imports(module).get(name, "")
    return _alias(origin, name) if origin.startswith(("mmood.", "lightning.")) else None


def _is_ours(module: str, name: str) -> bool:
    """Return whether a name is that of a class of mmood."""
    if any(isinstance(node, ast.ClassDef) and node.name == name for node in _tree(module).body):
        return True
    origin = _imports(module).get(name, "")
    return origin.startswith("mmood.") and _is_ours(origin, name)


def _is_dataclass(found: ast.ClassDef) -> bool:
    return any("dataclass" in ast.unparse(decorator) for decorator in found.decorator_list)


@cache
def _imports(module: str) -> Mapping[str, str]:
    """Return the names that a module imports from others, and from which."""
    return {
        alias.asname or alias.name: node.module
        for node in _statements(_tree(module))
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }


def _statements(tree: ast.Module) -> Iterator[ast.stmt]:
    """Yield the statements of a module, also those under a condition, such as imports for type checkers."""
    for node in tree.body:
        yield node
        if isinstance(node, ast.If):
            yield from node.body


@cache
def _tree(module: str) -> ast.Module:
    top, *rest = module.split(".")
    spec = importlib.util.find_spec(top)  # of the top package alone: for a module below, it would import the package
    assert spec is not None
    assert spec.submodule_search_locations is not None
    path = Path(spec.submodule_search_locations[0], *rest)
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.parse(file.read_text(encoding="utf-8"))
