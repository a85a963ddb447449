"""What `mmood COMMAND --help` prints, as text: for shell completion and the documentation."""

from __future__ import annotations

import contextlib
import io
import os
import re

from mmood.cli.commands import run

_FLAG = re.compile(r"^ +(?:-\w, )?(--[\w.]+)|, (--[\w.]+)", re.MULTILINE)


def help_of(command: str, columns: int = 100) -> str:
    """Return what the help of a command prints at a width."""
    printed = io.StringIO()
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = str(columns)
    try:
        with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
            run([command, "--help"])
    finally:
        del os.environ["COLUMNS"]
        if before is not None:
            os.environ["COLUMNS"] = before
    return printed.getvalue().rstrip()


def flags_of(command: str) -> list[str]:
    """Return the flags that the help of a command lists, each once."""
    found = (first or other for first, other in _FLAG.findall(help_of(command)))
    return list(dict.fromkeys(flag for flag in found if flag != "--help" and not flag.endswith(".")))
