"""The argument parser of the commands beside LightningCLI."""

from __future__ import annotations

import argparse
import shutil
from typing import NoReturn

from mmood.errors import MmoodError

WIDTH = 120
"""Columns of a help, at most."""


class ToolParser(argparse.ArgumentParser):
    """An ArgumentParser that answers bad arguments in a sentence, without its usage.

    Args:
        command: the name of the command.
        description: what it does.
        usage: what to type behind the command's name, where argparse's own usage would leave something out.
        examples: shown below the flags as they are.
    """

    def __init__(self, command: str, description: str, usage: str | None = None, examples: str | None = None) -> None:
        super().__init__(
            prog=f"mmood {command}",
            usage=None if usage is None else f"mmood {command} {usage}",
            description=description,
            epilog=examples,
            formatter_class=_formatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        """Raise the message as MmoodError."""
        raise MmoodError(f"`{self.prog}`: {message}; `{self.prog} --help` lists the arguments.")


def _formatter(prog: str) -> argparse.HelpFormatter:
    """Return the formatter of the help: as wide as the terminal, but no wider than lines of text should be."""
    return argparse.RawDescriptionHelpFormatter(prog, width=min(WIDTH, shutil.get_terminal_size((WIDTH, 0)).columns))
