"""Settings of the data, and how a benchmark fills what they leave open."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Literal

from mmood.data.benchmarks import find_benchmark
from mmood.errors import MmoodError

OnError = Literal["raise", "skip"]


@dataclass(frozen=True)
class LoaderSettings:
    """How samples are read.

    Attributes:
        workers: worker processes per device; 0 reads in the main process. By default 4, or the cores if they are fewer.
        start_method: fork, spawn or forkserver; None for the platform's own.
        prefetch: batches that each worker prepares in advance.
        persistent: keep the workers of training and validation from epoch to epoch.
        on_error: `raise` ends the run at a broken image, label or shard; `skip` leaves it out and lists its key.
        shuffle_buffer: encoded training images that each worker holds to draw the next one from.
        seed: of the training order and augmentation.
        pipes: let an index name commands (`pipe:`) as its shards; only for an index that you wrote yourself.
    """

    workers: int = field(default_factory=lambda: min(4, os.cpu_count() or 1))
    start_method: Literal["fork", "spawn", "forkserver"] | None = None
    prefetch: int = 2
    persistent: bool = True
    on_error: OnError = "raise"
    shuffle_buffer: int = 2048
    seed: int = 0
    pipes: bool = False

    def __post_init__(self) -> None:
        for name, value, least in (
            ("workers", self.workers, 0),
            ("prefetch", self.prefetch, 1),
            ("shuffle_buffer", self.shuffle_buffer, 1),
        ):
            if value < least:
                raise MmoodError(f"`data.loader.{name}` is {value}; it must be at least {least}.")


@dataclass(frozen=True)
class ValSettings:
    """What `validate`, and `fit` between epochs, evaluate.

    Attributes:
        id: name of a set, or the fraction of `train` to hold out (chosen by a hash of the key; never trained on).
        ood: group -> names of sets.
    """

    id: float | str | None = None
    ood: dict[str, list[str]] | None = None


@dataclass(frozen=True)
class DataPlan:
    """What is evaluated, with the benchmark filled in.

    Attributes:
        id: name of the ID set, or None if neither setting nor benchmark names one.
        ood: group -> names of sets.
        class_names: name of a list or text file, the names themselves, or None.
    """

    id: str | None
    ood: dict[str, list[str]] = field(default_factory=dict)
    class_names: str | list[str] | None = None


def resolve(
    benchmark: str | None,
    id: str | None,
    ood: dict[str, list[str]] | None,
    class_names: str | list[str] | None,
) -> DataPlan:
    """Return the plan: settings as they are, and what is unset from the benchmark.

    Raises:
        MmoodError: the benchmark is unknown, or a set appears twice.
    """
    if benchmark is not None:
        known = find_benchmark(benchmark)
        id = known.id if id is None else id
        ood = {group: list(names) for group, names in known.ood.items()} if ood is None else ood
        class_names = known.class_names if class_names is None else class_names
    ood = ood or {}
    check_distinct("data", id, ood)
    return DataPlan(id, ood, class_names)


def check_distinct(where: str, id: str | None, ood: dict[str, list[str]]) -> None:
    """Raise MmoodError if a set stands in two groups, or is both ID and OoD."""
    groups = {} if id is None else {id: "id"}
    for group, names in ood.items():
        for name in names:
            if name in groups:
                raise MmoodError(f"The set '{name}' is in `{where}` twice: as {groups[name]} and in ood.{group}.")
            groups[name] = f"ood.{group}"
