"""What a command imports before it is used, read from the source: start-up time is a list of modules."""

import ast
from functools import cache
from pathlib import Path

import pytest

import mmood
from mmood.cli.commands import COMMANDS

PACKAGE = Path(mmood.__file__).parent

HEAVY = {"torch", "torchvision", "lightning", "jsonargparse", "open_clip", "timm", "torchmetrics"}
SELDOM = {"scipy", "sklearn", "matplotlib", "webdataset", "faiss", "onnx", "onnxruntime", "pyarrow", "pandas"}
"""What a run of the command line needs for some settings only; each takes up to two seconds of CPU."""

LIGHT = ["configs", "sets", "prepare", "serve", "monitor", "detect"]


def source_of(module: str) -> Path | None:
    path = PACKAGE.parent / module.replace(".", "/")
    return next((file for file in (path / "__init__.py", path.with_suffix(".py")) if file.is_file()), None)


def at_import(body: list[ast.stmt]) -> list[ast.Import | ast.ImportFrom]:
    """The imports of a module that run when it is imported: those in functions, and those for type checkers, do not."""
    found: list[ast.Import | ast.ImportFrom] = []
    for node in body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            found.append(node)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            found += at_import(node.orelse)
        elif isinstance(node, ast.If | ast.Try | ast.With | ast.ClassDef):
            found += at_import([child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)])
    return found


@cache
def imported_by(module: str) -> frozenset[str]:
    """The modules that one module names at import, with the packages around them."""
    source = source_of(module)
    names: set[str] = set()
    for node in at_import(ast.parse(source.read_text()).body) if source else ():
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    inside = {name for name in names if name.startswith("mmood.") and source_of(name)}
    around = {name.rpartition(".")[0] for name in inside} - {"mmood"}
    return frozenset(inside | around | {name.partition(".")[0] for name in names if not name.startswith("mmood")})


def all_imported_by(module: str) -> set[str]:
    found, open_ends = set(), {module}
    while open_ends:
        found |= open_ends
        open_ends = {other for name in open_ends for other in imported_by(name)} - found
    return found


def test_imports_are_found():
    assert {"torch", "mmood.scores.functional_neighbours"} <= all_imported_by("mmood.scores.neighbours")
    assert "faiss" not in all_imported_by("mmood.scores.neighbours")


@pytest.mark.parametrize("command", LIGHT)
def test_a_command_that_needs_no_model_imports_no_torch(command):
    assert not HEAVY & all_imported_by(COMMANDS[command].module)


def test_a_wrong_flag_is_found_without_torch():
    assert not (HEAVY | {"numpy", "PIL"}) & all_imported_by("mmood.cli.stages")


@pytest.mark.parametrize("module", ["mmood.words.imagenet_x", "mmood.words.wordnet", "mmood.words.taxonomy"])
def test_wordnet_is_read_without_torch(module):
    assert not HEAVY & all_imported_by(module)


def test_a_run_imports_nothing_that_it_may_not_need():
    """`mmood test`, `fit` and `predict`: their own first import is this module."""
    assert not SELDOM & all_imported_by("mmood.configuration.lightning")
