"""The sets to read; a benchmark fills in the unset ones."""

from __future__ import annotations

from dataclasses import dataclass, field

from mmood.data.benchmarks import find_benchmark
from mmood.errors import MmoodError


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
        MmoodError: the benchmark is unknown, a group has no set, or a set appears twice.
    """
    if benchmark is not None:
        known = find_benchmark(benchmark)
        id = known.id if id is None else id
        ood = {group: list(names) for group, names in known.ood.items()} if ood is None else ood
        class_names = known.class_names if class_names is None else class_names
    ood = ood or {}
    check_sets("data", id, ood)
    return DataPlan(id, ood, class_names)


def check_sets(where: str, id: str | None, ood: dict[str, list[str]]) -> None:
    """Raise MmoodError if a group has no set, or a set is in two groups or is both ID and OoD."""
    groups = {} if id is None else {id: "id"}
    for group, names in ood.items():
        if not names:
            raise MmoodError(f"`{where}.ood.{group}` is empty; name its sets, or leave the group out.")
        for name in names:
            if name in groups:
                raise MmoodError(f"The set '{name}' is in `{where}` twice: as {groups[name]} and in ood.{group}.")
            groups[name] = f"ood.{group}"
