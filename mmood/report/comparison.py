"""Paired comparisons of two runs, or of two scores, on the same images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mmood.metrics.bootstrap import Placements, delong, placements
from mmood.report.runs import Run
from mmood.report.uncertainty import Intervals, Uncertainty, intervals, same_samples
from mmood.results.blocks import label


@dataclass(frozen=True)
class Comparison:
    """A score of a run against another on the same images of a set.

    Attributes:
        set: name of the set.
        run: name of the run.
        score: of the run.
        reference: what it is compared with, as (run, score).
        differences: metric -> value of the score minus value of the reference.
        intervals: metric -> 95 % interval of the difference by paired bootstrap; None without resamples.
        p: two-sided p of DeLong's test that the AUROCs are equal.
    """

    set: str
    run: str
    score: str
    reference: tuple[str, str]
    differences: dict[str, float]
    intervals: Intervals | None
    p: float


def compare(runs: Sequence[Run], uncertainty: Uncertainty) -> list[Comparison]:
    """Return each score against the same score of the first run, or against that run's first score if it has no such.

    Runs without kept scores, or on other images than the first, are left out: unpaired, the comparison says less.
    """
    ranks: dict[tuple[str, str, str], Placements] = {}
    found = []
    for run in runs:
        for score, name in run.pairs():
            reference = _reference(runs[0], run, score, name)
            if reference is not None and same_samples(runs[0], run, name):
                found.append(_compared(run, score, name, runs[0], reference, uncertainty, ranks))
    return found


def _reference(first: Run, run: Run, score: str, name: str) -> str | None:
    scores = [of for of, on in first.pairs() if on == name]
    if run is not first and score in scores:
        return score
    return scores[0] if scores and (run is not first or score != scores[0]) else None


def _compared(
    run: Run,
    score: str,
    name: str,
    first: Run,
    reference: str,
    uncertainty: Uncertainty,
    ranks: dict[tuple[str, str, str], Placements],
) -> Comparison:
    tested = delong(_placements(run, score, name, ranks), _placements(first, reference, name, ranks))
    own, other = uncertainty.replicates(run, score, [name]), uncertainty.replicates(first, reference, [name])
    here, there = _metrics(run, score, name), _metrics(first, reference, name)
    return Comparison(
        set=name,
        run=run.name,
        score=score,
        reference=(first.name, reference),
        differences={metric: here[metric] - there[metric] for metric in here},
        intervals=intervals(own - other) if own and other else None,
        p=tested.p,
    )


def _placements(run: Run, score: str, name: str, ranks: dict[tuple[str, str, str], Placements]) -> Placements:
    if (run.name, score, name) not in ranks:
        assert run.id_file is not None, "a pair has ID scores"
        ranks[run.name, score, name] = placements(run.id_file.scores[score], run.sets[name].scores[score])
    return ranks[run.name, score, name]


def _metrics(run: Run, score: str, name: str) -> dict[str, float]:
    row = next(row for row in run.results.rows if (label(row.score, row.variant), row.set) == (score, name))
    rates = row.metrics
    return {"auroc": rates.auroc, "fpr95_id_pos": rates.fpr95_id_pos, "fpr95_ood_pos": rates.fpr95_ood_pos}
