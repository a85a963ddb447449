"""Tables and progress on the screen."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TextIO, cast

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from mmood.output.escaping import visible
from mmood.output.printing import lasting, note


def console(stderr: bool = False) -> Console:
    """Return a console for tables and progress, to which a text is only a text: no markup, no emoji codes."""
    stream = lasting(sys.stderr if stderr else sys.stdout)
    return Console(file=cast("TextIO", stream), markup=False, emoji=False, highlight=False)


@dataclass(frozen=True)
class Bar:
    """A line of progress under way.

    Attributes:
        progress, task: of rich.
        begin: shows it; does nothing from the second call on.
    """

    progress: Progress
    task: TaskID
    begin: Callable[[], None]

    def advance(self, amount: int, title: str | None = None) -> None:
        """Advance by an amount; a title names the current item."""
        self.begin()
        self.progress.update(self.task, advance=amount, description=None if title is None else visible(title))

    def restart(self) -> None:
        """Take back all advances."""
        self.progress.reset(self.task)

    def expect(self, total: int) -> None:
        """Say when it is done, where that was not known."""
        self.progress.update(self.task, total=total)


@contextlib.contextmanager
def progress_bar(
    title: str,
    total: int | None,
    quiet: bool = False,
    transient: bool = False,
    in_bytes: bool = False,
    late: bool = False,
) -> Iterator[Bar]:
    """Yield a bar of progress on standard error; where that is no terminal, a plain line says what begins.

    Args:
        title: what is worked on.
        total: when it is done; None if that is not known.
        quiet: show nothing.
        transient: take the bar away at the end, and show no plain line.
        in_bytes: the amounts are bytes; also show how many come per second.
        late: show nothing before the first advance, which may be by 0: what refuses the work before it shows nothing.
    """
    amount = (DownloadColumn(), TransferSpeedColumn()) if in_bytes else (MofNCompleteColumn(),)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), *amount, TimeRemainingColumn())
    screen = console(stderr=True)
    drawn = not quiet and screen.is_interactive
    progress = Progress(*columns, console=screen, disable=not drawn, transient=transient)
    noted = not (quiet or drawn or transient)
    # Cached, so that a second call notes nothing; rich's own does nothing then.
    begin = functools.cache(lambda: note(title if total is None else f"{title}, {total}")) if noted else progress.start
    bar = Bar(progress, progress.add_task(visible(title), total=total), begin)
    if not late:
        begin()
    try:
        yield bar
    finally:
        if progress.live.is_started:
            progress.stop()
