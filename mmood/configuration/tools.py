"""The argument parser of the commands beside LightningCLI."""

from __future__ import annotations

import argparse
import shutil
import textwrap
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
        examples: shown below the flags; indented lines as they are, paragraphs as wide as the terminal.
    """

    def __init__(self, command: str, description: str, usage: str | None = None, examples: str | None = None) -> None:
        super().__init__(
            prog=f"mmood {command}",
            usage=None if usage is None else f"mmood {command} {usage}",
            description=_wrapped(description),
            epilog=None if examples is None else _wrapped(examples),
            formatter_class=_formatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        """Raise the message as MmoodError."""
        raise MmoodError(f"`{self.prog}`: {message}; `{self.prog} --help` lists the arguments.")


def _formatter(prog: str) -> argparse.HelpFormatter:
    """Return the formatter of the help: as wide as the terminal, but no wider than lines of text should be."""
    return argparse.RawDescriptionHelpFormatter(prog, width=_columns())


def _columns() -> int:
    return min(WIDTH, shutil.get_terminal_size((WIDTH, 0)).columns)


def _wrapped(text: str) -> str:
    """Return text with its paragraphs wrapped, but for those with indented lines, which are examples."""
    return "\n\n".join(
        part
        if any(line.startswith(" ") for line in part.splitlines())
        else textwrap.fill(" ".join(part.split()), _columns(), break_long_words=False, break_on_hyphens=False)
        for part in text.split("\n\n")
    )
