"""What settings need of the machine and of the rest of a run, checked before any long work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Requirement:
    """Something without which a run would fail.

    Attributes:
        what: it is, in a word or two.
        check: returns what was found, in a line; raises MmoodError with what is missing and what to do.
    """

    what: str
    check: Callable[[], str]
