"""Boards: the scores of all checked runs on the same images, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mmood.data.benchmarks import BENCHMARKS
from mmood.leaderboard.checking import Checked
from mmood.leaderboard.kinds import Kind, kind_of
from mmood.metrics.bootstrap import Interval, Replicates, bootstrap, mean_replicates, percentile_interval
from mmood.metrics.functional import Rates, mean_rates
from mmood.recipes.registry import find_recipe
from mmood.report.uncertainty import METRICS
from mmood.results.blocks import label

MEAN = "mean of all sets"


@dataclass(frozen=True)
class Estimate:
    """A score on a set, or in the mean over all sets.

    Attributes:
        rates: computed from the raw scores; of a test-time score, the mean over the seeds of its streams.
        seeds: how many streams; 1 for a static score.
        intervals: metric -> 95 % bootstrap interval over the images; empty without resamples.
    """

    rates: Rates
    seeds: int
    intervals: Mapping[str, Interval]


@dataclass(frozen=True)
class Line:
    """A score of a run on a board.

    Attributes:
        run: that it is of.
        score: its label.
        kind: what it was given.
        accuracy: of the run on the ID images, None where it names no class.
        estimates: set, or `MEAN` -> estimate.
    """

    run: Checked
    score: str
    kind: Kind
    accuracy: float | None
    estimates: Mapping[str, Estimate]


@dataclass(frozen=True)
class Board:
    """All scores on the same images.

    Attributes:
        name: of the benchmark, or of the ID set.
        id_set: the ID set, with its size.
        sets: OoD set -> group and size.
        lines: the highest AUROC of the mean first.
    """

    name: str
    id_set: tuple[str, int]
    sets: Mapping[str, tuple[str, int]]
    lines: tuple[Line, ...]

    @property
    def places(self) -> list[str]:
        """The sets, behind their mean if there are several."""
        return [MEAN, *self.sets] if len(self.sets) > 1 else list(self.sets)


def boards(runs: Sequence[Checked], resamples: int) -> list[Board]:
    """Return a board for each choice of images: runs on other images cannot be ranked among each other.

    Args:
        runs: checked.
        resamples: of the bootstrap; 0 for no intervals.
    """
    groups: dict[tuple[str, ...], list[Checked]] = {}
    for run in runs:
        sets = [*dict.fromkeys([str(run.run.id_set), *sorted({row.set for row in run.rows})])]
        groups.setdefault(tuple(f"{name}\n{run.images(name)}" for name in sets), []).append(run)
    return [_board(members, resamples) for members in groups.values()]


def _board(runs: Sequence[Checked], resamples: int) -> Board:
    first = runs[0]
    sets = {row.set: (row.group, row.metrics.n_ood) for row in first.rows}
    id_set = str(first.run.id_set), first.rows[0].metrics.n_id
    lines = [line for run in runs for line in _lines(run, list(sets), resamples)]
    place = MEAN if len(sets) > 1 else next(iter(sets))
    ranked = sorted(lines, key=lambda line: -line.estimates[place].rates.auroc)
    return Board(_name(id_set, sets), id_set, sets, tuple(ranked))


def _name(id_set: tuple[str, int], sets: Mapping[str, tuple[str, int]]) -> str:
    sizes = {id_set[0]: id_set[1], **{name: size for name, (_, size) in sets.items()}}
    for benchmark in BENCHMARKS.values():
        members = {benchmark.id, *(name for names in benchmark.ood.values() for name in names)}
        if members == set(sizes) and all(find_recipe(name).count == size for name, size in sizes.items()):
            return benchmark.name
    return id_set[0]


def _lines(run: Checked, sets: Sequence[str], resamples: int) -> list[Line]:
    found: dict[str, dict[str, list[int]]] = {}
    for place, row in enumerate(run.rows):
        found.setdefault(label(row.score, row.variant), {}).setdefault(row.set, []).append(place)
    return [
        Line(
            run=run,
            score=score,
            kind=kind_of(run.run, run.rows[next(iter(of_sets.values()))[0]]),
            accuracy=run.accuracy.get(str(run.run.id_set)),
            estimates=_estimates(run, {name: of_sets[name] for name in sets}, resamples),
        )
        for score, of_sets in found.items()
        if set(of_sets) == set(sets)
    ]


def _estimates(run: Checked, places: Mapping[str, Sequence[int]], resamples: int) -> dict[str, Estimate]:
    rates = {name: mean_rates([run.rows[place].metrics for place in of_set]) for name, of_set in places.items()}
    drawn = _drawn(run, places, resamples) if resamples else {}
    seeds = max(len(of_set) for of_set in places.values())
    found = {name: Estimate(rates[name], seeds, _intervals(drawn.get(name))) for name in places}
    if len(places) > 1:
        mean = mean_replicates(list(drawn.values())) if drawn else None
        found[MEAN] = Estimate(mean_rates(list(rates.values())), seeds, _intervals(mean))
    return found


def _drawn(run: Checked, places: Mapping[str, Sequence[int]], resamples: int) -> dict[str, Replicates]:
    """Return the replicates of each set; all sets share the drawn ID images, and streams are averaged over seeds."""
    first = run.rows[next(iter(places.values()))[0]]
    if first.seed is None:
        sides = {name: run.sides[of_set[0]] for name, of_set in places.items()}
        some = next(iter(sides.values()))
        found = bootstrap({"": some.id}, {name: {"": side.ood} for name, side in sides.items()}, resamples)
        return {name: found["", name] for name in sides}
    return {name: mean_replicates([_of_stream(run, name, place, resamples) for place in of_set])
            for name, of_set in places.items()}  # fmt: skip


def _of_stream(run: Checked, name: str, place: int, resamples: int) -> Replicates:
    side = run.sides[place]
    return bootstrap({"": side.id}, {name: {"": side.ood}}, resamples)["", name]


def _intervals(drawn: Replicates | None) -> dict[str, Interval]:
    return {} if drawn is None else {name: percentile_interval(getattr(drawn, name)) for name in METRICS}
