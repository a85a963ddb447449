"""The methods of `mmood propose`, from the docstrings of their files."""

from __future__ import annotations

import importlib
import inspect

from generators.docstrings import typeset
from mmood.proposals.methods import METHODS

FILES = {"wordnet": "wordnet", "eoe": "eoe", "mm-ood": "mm_ood", "pnps": "pnps"}
"""The beginning of a method's name -> the file of `mmood.proposals` that has it."""


def section(_: str = "") -> str:
    """Return a section for each file of methods; every method of `mmood propose` stands in one.

    Raises:
        LookupError: a method has no file here.
    """
    if missing := [name for name in METHODS if not any(name.startswith(start) for start in FILES)]:
        raise LookupError(f"No file is known for the methods {', '.join(missing)}; add it to FILES.")
    return "\n\n".join(_of_file(start, file) for start, file in FILES.items())


def _of_file(start: str, file: str) -> str:
    names = [name for name in METHODS if name.startswith(start)]
    text = typeset(inspect.getdoc(importlib.import_module(f"mmood.proposals.{file}")) or "")
    commands = "\n".join(
        f"    mmood propose --class_names classes.txt --method {name} --out names.json" for name in names
    )
    return f"## {', '.join(f'`{name}`' for name in names)} {{ #{start} }}\n\n{text}\n\n{commands}"
