"""The sets to read; a benchmark fills in the unset ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from mmood.data.benchmarks import find_benchmark
from mmood.errors import MmoodError
from mmood.sets.places import place_of, set_name


@dataclass(frozen=True)
class ValSettings:
    """What `validate`, and `fit` between epochs, evaluate.

    Attributes:
        id: a set, or the fraction of `train` to hold out (chosen by a hash of the key; never trained on).
        ood: group -> sets.
    """

    id: float | str | None = None
    ood: dict[str, list[str]] | None = None


@dataclass(frozen=True)
class BenchmarkPlan:
    """The sets of one benchmark: its name, the ID set, OoD sets by group, and covariate-shifted ID sets."""

    name: str
    id: str
    ood: dict[str, list[str]]
    csid: tuple[str, ...] = ()


@dataclass(frozen=True)
class DataPlan:
    """What is evaluated, with the benchmark filled in.

    Attributes:
        id: the ID set, or None if neither setting nor benchmark names one.
        ood: group -> sets.
        class_names: name of a list or text file, the names themselves, or None.
        protocols: the benchmarks, where a run has several; `id`, `ood` and `csid` are then those of the first.
        csid: covariate-shifted ID sets, which count as ID in rows of their own.
    """

    id: str | None
    ood: dict[str, list[str]] = field(default_factory=dict)
    class_names: str | list[str] | None = None
    protocols: tuple[BenchmarkPlan, ...] = ()
    csid: tuple[str, ...] = ()

    def tests(self) -> list[tuple[str | None, dict[str, list[str]], tuple[str, ...]]]:
        """Return the ID set, the OoD sets and the csid sets of each benchmark of a test."""
        return [(each.id, each.ood, each.csid) for each in self.protocols] or [(self.id, self.ood, self.csid)]


def resolve(
    benchmark: str | list[str] | None,
    id: str | None,
    ood: dict[str, list[str]] | None,
    class_names: str | list[str] | None,
    train: str | None = None,
    csid: list[str] | None = None,
) -> DataPlan:
    """Return the plan: settings as they are, and what is unset from the benchmark.

    A training set or ID set at a path of its own does not get the class names of the benchmark.

    Raises:
        MmoodError: the benchmark is unknown, a group has no set, or a set appears twice.
    """
    if isinstance(benchmark, list):
        return _several(benchmark, id, ood, class_names, csid)
    if benchmark is not None:
        known = find_benchmark(benchmark)
        id = known.id if id is None else id
        ood = {group: list(names) for group, names in known.ood.items()} if ood is None else ood
        csid = list(known.csid) if csid is None else csid
        if class_names is None and not any(place_of(own).path for own in (id, train) if own is not None):
            class_names = known.class_names
    ood = ood or {}
    check_sets("data", id, ood, csid or ())
    return DataPlan(id, ood, class_names, csid=tuple(csid or ()))


def _several(
    benchmarks: list[str],
    id: str | None,
    ood: dict[str, list[str]] | None,
    class_names: str | list[str] | None,
    csid: list[str] | None,
) -> DataPlan:
    if len(set(benchmarks)) < max(1, len(benchmarks)):
        raise MmoodError(f"`data.benchmark` is {benchmarks}; name one benchmark, or several different ones.")
    known = [find_benchmark(name) for name in benchmarks]
    own = [key for key, value in (("id", id), ("ood", ood), ("csid", csid)) if value is not None]
    if len(known) > 1 and own:
        raise MmoodError(
            f"`data.benchmark` names several benchmarks, which have their own sets; leave `data.{own[0]}` unset."
        )
    if class_names is None and len({each.class_names for each in known}) > 1:
        raise MmoodError(
            f"The benchmarks {', '.join(benchmarks)} have different ID classes, so one model cannot be tested on all "
            "of them at once; name one benchmark in `data.benchmark`."
        )
    first = resolve(benchmarks[0], id, ood, class_names, csid=csid)
    if len(known) == 1:
        return first
    plans = [
        BenchmarkPlan(each.name, each.id, {group: [*names] for group, names in each.ood.items()}, each.csid)
        for each in known
    ]
    return replace(first, protocols=tuple(plans))


def check_sets(where: str, id: str | None, ood: dict[str, list[str]], csid: Sequence[str] = ()) -> None:
    """Raise MmoodError if a group has no set, or an ID group's name, a set is in two groups, or two have one name."""
    groups = {} if id is None else {set_name(id): ("id", id)}
    for group in ood:
        if not ood[group]:
            raise MmoodError(f"`{where}.ood.{group}` is empty; name its sets, or leave the group out.")
        if group in ("id", "csid"):
            raise MmoodError(f"`{where}.ood.{group}` would count as ID; name such sets in `{where}.{group}`.")
    for group, names in {"csid": csid, **{f"ood.{group}": names for group, names in ood.items()}}.items():
        for setting in names:
            name = set_name(setting)
            if name in groups and place_of(setting) == place_of(groups[name][1]):
                raise MmoodError(f"The set '{name}' is in `{where}` twice: as {groups[name][0]} and in {group}.")
            if name in groups:
                raise MmoodError(
                    f"`{where}` has two sets that would both be called '{name}', {groups[name][1]} and {setting}; put "
                    f"another name in front of one, such as {name}-2={place_of(setting).path or setting}."
                )
            groups[name] = (group, setting)
