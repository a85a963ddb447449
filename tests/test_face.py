"""What `from mmood import ...` offers."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import mmood

SOURCE = Path(mmood.__file__)


def imports_for_type_checkers() -> dict[str, str]:
    tree = ast.parse(SOURCE.read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    return {alias.name: node.module for node in block.body for alias in node.names}


@pytest.mark.parametrize("name", mmood.__all__)
def test_every_public_name_can_be_imported(name):
    assert getattr(mmood, name) is not None
    assert name in dir(mmood)


def test_type_checkers_see_what_is_imported_at_run_time():
    expected = imports_for_type_checkers()
    assert {*expected, "__version__"} == set(mmood.__all__)
    for name, module in expected.items():
        assert getattr(mmood, name) is getattr(sys.modules[module], name)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'Mistake'"):
        mmood.Mistake  # noqa: B018


def test_importing_mmood_imports_nothing_heavy():
    code = "import sys, mmood; print([m for m in ('torch', 'numpy', 'lightning', 'yaml') if m in sys.modules])"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=SOURCE.parents[1]
    )
    assert answer.stdout.strip() == "[]"
