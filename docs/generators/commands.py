"""The reference of the command line: the help of every command as its parser prints it, and the keys of a config."""

from __future__ import annotations

from generators.docstrings import typeset
from mmood.cli.commands import GROUPS
from mmood.cli.help_texts import help_of
from mmood.configuration.lightning import parsed

_COLUMNS = 88
"""What fits into the width of a page."""


def commands_page(_: str = "") -> str:
    """Return the help of every command, by group."""
    parts = []
    for group, commands in GROUPS.items():
        parts.append(f"## {group}")
        parts += [
            f"### mmood {name} {{ #{name} }}\n\n```text\n{help_of(name, columns=_COLUMNS)}\n```" for name in commands
        ]
    return "\n\n".join(parts)


_OF_OTHERS = ("trainer", "model", "config", "print_config", "help")


def keys_page(_: str = "") -> str:
    """Return a table of every key of a config but those of models, which have pages, and of Lightning's trainer."""
    tables: dict[str, list[str]] = {}
    for action in parsed(["--config", "demo_zeroshot.yaml"]).parser._actions:
        top, _, below = action.dest.partition(".")
        if top not in _OF_OTHERS and action.default != "==SUPPRESS==":
            row = f"| `{action.dest}` | `{action.default}` | {_cell(typeset(action.help or ''))} |"
            tables.setdefault(top if below else "run", []).append(row)
    return "\n\n".join("\n".join([f"## {top}", "", *_HEAD, *rows]) for top, rows in tables.items())


_HEAD = ("| key | default | meaning |", "|---|---|---|")


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|")
