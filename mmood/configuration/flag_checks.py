"""Flags that are wrong whatever the config says, found before anything is parsed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from mmood.errors import MmoodError
from mmood.settings import check_count

LARGEST_SEED = 2**32 - 1
"""The largest seed that numpy takes."""

_GROUP = re.compile(r"data\.(?:val\.)?ood\.([^+]+)(\+?)")
_TRUTH = ("true", "false", "null")


def check_flags(arguments: Sequence[str]) -> None:
    """Refuse flags with a value that cannot be meant.

    Raises:
        MmoodError: the seed is no whole number, or a group of OoD sets is no list.
    """
    for name, value in flags(arguments):
        if name == "seed_everything" and value.lower() not in _TRUTH:
            check_count(name, int(value) if re.fullmatch(r"-?\d+", value) else value, least=0, most=LARGEST_SEED)
        if group := _GROUP.fullmatch(name):
            _check_group(name, group[2], value)


def flags(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield (name without dashes, value) of every flag that has one."""
    for argument, following in zip(arguments, [*arguments[1:], None], strict=True):
        if not argument.startswith("--"):
            continue
        name, joined, value = argument[2:].partition("=")
        if joined:
            yield name, value
        elif following is not None and not following.startswith("--"):
            yield name, following


def _check_group(name: str, plus: str, value: str) -> None:
    if plus:
        raise MmoodError(
            f"--{name} cannot add to a group of sets; give the whole list, as in --{name[:-1]} '[a-set, {value:.60}]'."
        )
    if not value.lstrip().startswith("["):
        raise MmoodError(f"--{name} is {value:.60}; a group is a list of sets, as in --{name} '[{value:.60}]'.")
