"""The numbers of several runs side by side: every table of a report, in whatever form, is drawn from these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from mmood.metrics.bootstrap import Replicates, mean_replicates
from mmood.metrics.functional import Rates, mean_rates
from mmood.report.runs import Run
from mmood.report.seeds import RunGroup, same_bits
from mmood.report.uncertainty import Intervals, Uncertainty, intervals
from mmood.results.blocks import AUROC, COLUMNS, Column, label, percent, spread
from mmood.results.model import Protocol


@dataclass(frozen=True)
class Estimate:
    """A score of a run on a set, or in the mean over several.

    Attributes:
        rates: mean over the seeds.
        seeds: how many there are.
        spread: sample standard deviation over the seeds; None for one.
        intervals: metric -> 95 % bootstrap interval over the images; None if their scores were not kept.
    """

    rates: Rates
    seeds: int
    spread: Rates | None
    intervals: Intervals | None


@dataclass(frozen=True)
class Line:
    """A score of a run (or of a group of runs that differ in their seed) over all places."""

    run: str
    score: str
    protocol: Protocol
    estimates: dict[str, Estimate]


@dataclass(frozen=True)
class Place:
    """A column of the overview: a set, or the mean over several.

    Attributes:
        name: of the set, or "mean of far".
        sets: that it rests on.
        note: group and sizes.
    """

    name: str
    sets: tuple[str, ...]
    note: str


@dataclass(frozen=True)
class Summary:
    """All lines and places; `best` holds for each place and metric the best print among static scores.

    `warnings` are sentences on numbers that do not mean what they seem to.
    """

    places: tuple[Place, ...]
    lines: tuple[Line, ...]
    best: dict[tuple[str, Column], str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def is_best(self, line: Line, place: str, column: Column) -> bool:
        """Return whether a line has the best static value of a column, as printed."""
        value = percent(column.value(line.estimates[place].rates))
        return line.protocol == "static" and self.best.get((place, column)) == value

    @property
    def main_place(self) -> Place:
        """The place that lines are ordered by: the mean over most sets."""
        return max(self.places, key=lambda place: len(place.sets))


def summarise(groups: Sequence[RunGroup], uncertainty: Uncertainty) -> Summary:
    """Return the numbers of all runs, the sets in the order in which they first come."""
    places = _places([run for group in groups for run in group.runs])
    lines = []
    for group in groups:
        names = dict.fromkeys(
            (label(row.score, row.variant), row.protocol) for run in group.runs for row in run.results.rows
        )
        for score, protocol in names:
            estimates = {place.name: _estimate(group, score, protocol, place, uncertainty) for place in places}
            present = {name: estimate for name, estimate in estimates.items() if estimate is not None}
            lines.append(Line(group.name, score, protocol, present))
    return Summary(tuple(places), tuple(lines), _best(places, lines), tuple(same_bits(groups)))


def _places(runs: Sequence[Run]) -> list[Place]:
    rows = [row for run in runs for row in run.results.rows]
    groups = {row.set: row.group for row in rows}
    sizes = {row.set: f"{row.metrics.n_ood:,} OoD against {row.metrics.n_id:,} ID" for row in reversed(rows)}
    places = [Place(name, (name,), f"{group}, {sizes[name]}") for name, group in groups.items()]
    members = {group: tuple(name for name in groups if groups[name] == group) for group in groups.values()}
    means = {group: sets for group, sets in members.items() if len(sets) > 1}
    # The groups of a run of scores of pixels are conventions; it has no mean over them, which would mean nothing.
    if len(members) > 1 and any(mean.group == "all" for run in runs for mean in run.results.means):
        means["all"] = tuple(groups)
    return places + [
        Place(f"mean of {name}", sets, f"{len(sets)} sets, weighted equally") for name, sets in means.items()
    ]


def _estimate(
    group: RunGroup, score: str, protocol: Protocol, place: Place, uncertainty: Uncertainty
) -> Estimate | None:
    found = [_rates(run, score, protocol, place.sets) for run in group.runs]
    seeds = [rates for of_run in found for rates in of_run]
    if not all(found) or not seeds:
        return None
    drawn = [uncertainty.replicates(run, score, place.sets) for run in group.runs] if protocol == "static" else []
    return Estimate(mean_rates(seeds), len(seeds), spread(seeds), intervals(_mean(drawn)))


def _rates(run: Run, score: str, protocol: Protocol, sets: Sequence[str]) -> list[Rates]:
    """Return the mean over the sets for each seed inside a run (None is one too); nothing if a set is missing."""
    rows = [r for r in run.results.rows if label(r.score, r.variant) == score and r.protocol == protocol]
    seeds = [{r.set: r.metrics for r in rows if r.seed == seed} for seed in dict.fromkeys(r.seed for r in rows)]
    return [mean_rates([of[name] for name in sets]) for of in seeds if all(name in of for name in sets)]


def _mean(drawn: Sequence[Replicates | None]) -> Replicates | None:
    present = [replicates for replicates in drawn if replicates is not None]
    return mean_replicates(present) if present and len(present) == len(drawn) else None


def _best(places: Sequence[Place], lines: Sequence[Line]) -> dict[tuple[str, Column], str]:
    found = {}
    for place in places:
        static = [
            line.estimates[place.name].rates
            for line in lines
            if line.protocol == "static" and place.name in line.estimates
        ]
        for column in COLUMNS if len(static) > 1 else ():
            values = [column.value(rates) for rates in static]
            found[place.name, column] = percent(max(values) if column.higher_is_better else min(values))
    return found


def ranked(summary: Summary, place: Place) -> list[Line]:
    """Return the lines, static ones first, the highest AUROC on a place first."""

    def order(line: Line) -> tuple[bool, float]:
        estimate = line.estimates.get(place.name)
        return line.protocol != "static", -AUROC.value(estimate.rates) if estimate else 0.0

    return sorted(summary.lines, key=order)
