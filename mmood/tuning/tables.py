"""What a tuning found, on the screen."""

from __future__ import annotations

from collections.abc import Iterable

from rich.table import Table

from mmood.output.console import console
from mmood.output.escaping import visible
from mmood.tuning.tuner import NLL, Choice


def show(choices: Iterable[Choice]) -> None:
    """Print a table for each score, with every combination; the chosen one is marked."""
    screen = console()
    for choice in choices:
        screen.print(_table(choice))


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
        settings = [_setting(option[key]) for key in keys]
        table.add_row(*settings, shown, "chosen" if chosen else "", style="bold" if chosen else None)
    return table


def _setting(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else visible(str(value))
