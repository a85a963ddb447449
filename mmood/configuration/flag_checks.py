"""Flags that are wrong with any config, found before anything is parsed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from mmood.classes.names import load_class_names
from mmood.data.benchmarks import find_benchmark
from mmood.errors import MmoodError
from mmood.files import is_folder, user_path
from mmood.runs.checkpoint_path import check_file, is_word
from mmood.settings import check_count
from mmood.shards.locations import is_local

LARGEST_SEED = 2**32 - 1
"""The largest seed that numpy takes."""

_GROUP = re.compile(r"data\.(?:val\.)?ood\.([^+]+)(\+?)")
_TRUTH = ("true", "false", "null")
_NAME = re.compile(r"[A-Za-z][\w.-]*")


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


def check_places(arguments: Sequence[str]) -> None:
    """Refuse flags that name what is not there: a checkpoint, a folder of sets, a benchmark, a list of class names.

    Raises:
        MmoodError: it is not there; the sentence is that of the code which would look for it.
    """
    for name, value in flags(arguments):
        if name == "ckpt_path" and "://" not in value and not is_word(value):
            check_file(Path(value), "--ckpt_path")
        if name == "data.root" and is_local(value) and not is_folder(user_path(value)):
            raise MmoodError(f"`data.root` is {value:.200}, which is no folder; name the one that contains the sets.")
        if name == "data.benchmark" and _NAME.fullmatch(value) and value not in _TRUTH:
            find_benchmark(value)
        if name == "data.class_names" and _NAME.fullmatch(value) and value not in _TRUTH:
            load_class_names(value)


def flags(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield (name without dashes, value) of every flag that has one."""
    for argument, following in pairwise([*arguments, "--"]):
        if not argument.startswith("--"):
            continue
        name, joined, value = argument[2:].partition("=")
        if joined:
            yield name, value
        elif not following.startswith("--"):
            yield name, following


def score_flags(arguments: Sequence[str]) -> list[str]:
    """Return the names of the scores of which flags set something, in the order of the flags."""
    found = (re.fullmatch(r"model\.scores\.([^.]+)(\..+)?", name) for name, _ in flags(arguments))
    names = [(match[1], match[2]) for match in found if match]
    given = {name for name, below in names if below is None}
    return list(dict.fromkeys(name for name, below in names if below is not None and name not in given))


def no_such_score(name: str, known: Iterable[str]) -> str:
    """Return the sentence for flags of a score that the config does not have.

    >>> no_such_score("knn", ["mcm", "energy"])
    "The config has no score 'knn' (it has mcm, energy); add one by --model.scores.knn CLASS before its settings."
    """
    return (
        f"The config has no score '{name}' (it has {', '.join(known)}); add one by --model.scores.{name} CLASS "
        "before its settings."
    )


def without_flags(arguments: Sequence[str], prefixes: Sequence[str]) -> list[str]:
    """Return the arguments without the flags below these names, and without their values."""
    kept: list[str] = []
    skipping = False
    for argument in arguments:
        if argument.startswith("--"):
            name = argument[2:].partition("=")[0]
            skipping = any(name.startswith(f"{prefix}.") for prefix in prefixes)
        if not skipping:
            kept.append(argument)
    return kept


def _check_group(name: str, plus: str, value: str) -> None:
    if plus:
        raise MmoodError(
            f"--{name} cannot add to a group of sets; give the whole list, as in --{name[:-1]} '[a-set, {value:.60}]'."
        )
    if not value.lstrip().startswith("["):
        raise MmoodError(f"--{name} is {value:.60}; a group is a list of sets, as in --{name} '[{value:.60}]'.")
