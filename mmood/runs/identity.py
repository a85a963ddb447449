"""The id of a run, which stands in every file that the run writes."""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING

from mmood.errors import MmoodError

if TYPE_CHECKING:  # whoever only reads results needs no torch
    from lightning.pytorch import Trainer

RUN_ID = re.compile(r"[0-9a-f]{16}")


def new_run_id(trainer: Trainer) -> str:
    """Return 64 random bits in hexadecimal, the same on every rank; every rank must call this."""
    run: str = trainer.strategy.broadcast(secrets.token_hex(8))
    return run


def check_same_run(what: str, run: str | None, of_results: str | None) -> None:
    """Raise MmoodError if a file is not of the run that wrote the results beside it.

    Args:
        what: the file, for the sentence.
        run: the id in it; None if it has none.
        of_results: the id in the results; None for results from before runs had one.
    """
    if run != of_results:
        raise MmoodError(
            f"{what} belongs to the run {run or 'of no id'}, and the results beside it to the run "
            f"{of_results or 'of no id'}; together they would mix the numbers of two runs. Evaluate again, or remove "
            "the file."
        )
