"""What a tuning found, on the screen."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.table import Table

from mmood.tuning.tuner import NLL, Choice


def show(choices: Iterable[Choice], console: Console) -> None:
    """Print a table for each score, with every combination; the chosen one is marked."""
    for choice in choices:
        console.print(_table(choice))


def _table(choice: Choice) -> Table:
    rate = choice.criterion != NLL
    table = Table(title=f"{choice.grid.name}: {choice.criterion}{' (%)' if rate else ''}", title_justify="left")
    keys = list(choice.options[0])
    for key in keys:
        table.add_column(key, justify="right")
    table.add_column(choice.criterion, justify="right")
    table.add_column("")
    for number, (option, value) in enumerate(zip(choice.options, choice.values, strict=True)):
        chosen = number == choice.chosen
        shown = f"{100 * value:.2f}" if rate else f"{value:.4f}"
        settings = [f"{option[key]:.6g}" if isinstance(option[key], float) else str(option[key]) for key in keys]
        table.add_row(*settings, shown, "chosen" if chosen else "", style="bold" if chosen else None)
    return table
