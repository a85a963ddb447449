"""Tutorials: notebooks as jupytext scripts, run cell by cell in this process, as Markdown with what they print.

A line `!mmood ...` of a notebook is run in this process too, where a shell would import everything anew.
"""

from __future__ import annotations

import ast
import base64
import contextlib
import io
import os
import re
import shlex
import tempfile
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jupytext

from mmood.cli.main import main

FOLDER = Path(__file__).parents[1] / "tutorials"
_COMMAND = re.compile(r"^(?P<indent>\s*)!mmood (?P<arguments>.*)$", re.MULTILINE)


_ALARM = 3  # the exit code of `mmood monitor` when it has found a change
# A bar, or the metrics at its right end, which wrap.
_PROGRESS = re.compile(r"[━╸╺]{4}.*\d+/\d+|^ {60,}\S+( \S+)?$")


class TutorialError(Exception):
    """A cell failed; says which, and how."""


@dataclass(frozen=True)
class Cell:
    """A cell after it was run.

    Attributes:
        source: Markdown, or Python.
        is_code: which of the two.
        printed: what it wrote to stdout, and its last expression, if that is a value.
        picture: the last expression as PNG, if it is an image.
    """

    source: str
    is_code: bool
    printed: str = ""
    picture: bytes | None = None


@dataclass(frozen=True)
class Tutorial:
    """A tutorial.

    Attributes:
        name: of its file, without the ending.
        cells: in order.
        seconds: CPU time of this process for all of them; None if they were not run.
    """

    name: str
    cells: tuple[Cell, ...]
    seconds: float | None


LEADERBOARD = "leaderboard/index.html"
"""Page of the site that a tutorial writes."""

NEEDS = {"image_only": "MMOOD_REAL_DATA"}
"""Tutorial -> the variable of the environment without which it is shown and not run."""


def missing(name: str) -> str | None:
    """Return the variable that a tutorial needs and that is not set; None if it can be run."""
    needed = NEEDS.get(name)
    return needed if needed is not None and not os.environ.get(needed) else None


def names() -> list[str]:
    """Return the names of all tutorials."""
    return sorted(file.stem for file in FOLDER.glob("*.py"))


def read(name: str) -> Tutorial:
    """Return a tutorial that was not run."""
    cells = jupytext.read(FOLDER / f"{name}.py", fmt="py:percent").cells
    return Tutorial(name, tuple(Cell(cell.source, cell.cell_type == "code") for cell in cells), None)


def run(name: str, folder: Path) -> Tutorial:
    """Return a tutorial after running its cells in a folder, in which those of earlier ones may have left files.

    Raises:
        TutorialError: a cell raised, or a command ended with an exit code.
    """
    start = time.process_time()
    space: dict[str, Any] = {"__name__": "__main__", "_mmood": _mmood}
    with contextlib.chdir(folder), contextlib.redirect_stderr(io.StringIO()):
        cells = tuple(_run(name, cell, space) if cell.is_code else cell for cell in read(name).cells)
    return Tutorial(name, cells, time.process_time() - start)


@dataclass(frozen=True)
class Built:
    """What a build of the site has of the tutorials.

    Attributes:
        tutorials: all of them, in order.
        leaderboard: the page that one of them wrote; None if it was not run.
    """

    tutorials: tuple[Tutorial, ...]
    leaderboard: str | None


@cache
def built() -> Built:
    """Return the tutorials, run one after the other in one folder, once in a process.

    `MMOOD_DOCS_RUN=0` in the environment leaves them without their output, in seconds.
    """
    runs = os.environ.get("MMOOD_DOCS_RUN") != "0"
    with tempfile.TemporaryDirectory() as folder:
        found = tuple(run(name, Path(folder)) if runs and missing(name) is None else read(name) for name in names())
        board = Path(folder) / LEADERBOARD
        return Built(found, board.read_text() if board.exists() else None)


def pages() -> Iterator[tuple[str, str]]:
    """Yield path and text of every tutorial's page, and of the leaderboard."""
    for tutorial in built().tutorials:
        yield f"tutorials/{tutorial.name}.md", to_markdown(tutorial)
    yield LEADERBOARD, built().leaderboard or "The tutorials were not run for this site."


def times(_: str = "") -> str:
    """Return a table of how long each tutorial took in this build."""
    lines = [f"| [{_title(one)}]({one.name}.md) | {_took(one)} |" for one in built().tutorials]
    return "\n".join(["| tutorial | seconds of CPU |", "|---|--:|", *lines])


def _title(tutorial: Tutorial) -> str:
    return tutorial.cells[0].source.splitlines()[0].removeprefix("# ")


def _took(tutorial: Tutorial) -> str:
    if tutorial.seconds is not None:
        return f"{tutorial.seconds:.0f}"
    return f"not run: {missing(tutorial.name)} is not set" if missing(tutorial.name) else "not run"


def _run(name: str, cell: Cell, space: dict[str, Any]) -> Cell:
    printed = io.StringIO()
    code = _COMMAND.sub(lambda found: f"{found['indent']}_mmood({found['arguments']!r})", cell.source)
    value = None
    with contextlib.redirect_stdout(printed), _columns():
        try:
            tree = ast.parse(code)
            last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
            exec(compile(tree, name, "exec"), space)  # noqa: S102  (our own files)
            if isinstance(last, ast.Expr):
                value = eval(compile(ast.Expression(last.value), name, "eval"), space)  # noqa: S307
        except Exception as error:
            raise TutorialError(f"{name}: the cell\n\n{cell.source}\n\n{traceback.format_exc()}") from error
        text = _plain(printed.getvalue())
    picture = value._repr_png_() if hasattr(value, "_repr_png_") else None
    shown = "" if value is None or picture else repr(value)
    return Cell(cell.source, True, text + shown, picture)


@contextlib.contextmanager
def _columns() -> Iterator[None]:
    """Let tables be as wide as a page."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "100"
    try:
        yield
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before


def _mmood(arguments: str) -> None:
    """Run a command; what it says on stderr is not part of the page."""
    with contextlib.redirect_stderr(io.StringIO()) as complaint:
        code = main(shlex.split(arguments))
    if code not in (0, _ALARM):
        raise TutorialError(f"`mmood {arguments}` ended with exit code {code}: {complaint.getvalue()[-2000:]}")


def _plain(printed: str) -> str:
    """Return text without bars of progress, the name of this folder, and the spaces at the ends of lines."""
    lines = printed.replace(f"{Path.cwd()}/", "").splitlines()
    kept = [line.rstrip() for line in lines if not _PROGRESS.search(line)]
    return "\n".join(kept) + "\n" * bool(kept)


def to_markdown(tutorial: Tutorial) -> str:
    """Return a page: the cells, each with its output below."""
    parts = [_cell(cell) for cell in tutorial.cells]
    ran = "It was not run when this page was built"
    if tutorial.seconds is not None:
        ran = f"Running it took {tutorial.seconds:.0f} s of CPU when this page was built"
    elif missing(tutorial.name):
        ran = f"{ran}: {missing(tutorial.name)} is not set"
    source = f"[docs/tutorials/{tutorial.name}.py]({tutorial.name}.py)"
    note = f"*This page is a notebook, {source}; `jupytext --to ipynb` converts it for Jupyter. {ran}.*"
    return "\n\n".join([parts[0], note, *parts[1:]])


def _cell(cell: Cell) -> str:
    if not cell.is_code:
        return cell.source
    parts = [f"```python\n{cell.source}\n```"]
    if cell.printed.strip():
        parts.append(f"```{{ .text .output }}\n{cell.printed.strip(chr(10))}\n```")
    if cell.picture is not None:
        parts.append(f"![](data:image/png;base64,{base64.b64encode(cell.picture).decode()})")
    return "\n\n".join(parts)
