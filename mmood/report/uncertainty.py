"""Bootstrap over the images of all runs at once, so that runs on the same images can be compared in pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import numpy as np
from jaxtyping import Float

from mmood.metrics.bootstrap import Interval, Replicates, bootstrap, mean_replicates, percentile_interval
from mmood.report.runs import Run

METRICS = tuple(field.name for field in fields(Replicates))
Intervals = dict[str, Interval]


class Uncertainty:
    """The replicates of every run, score and set whose scores were kept.

    Args:
        runs: of the report.
        resamples: number of resamples; 0 for none, then nothing has an interval.
        seed: of the draws.
    """

    def __init__(self, runs: Sequence[Run], resamples: int, seed: int = 0) -> None:
        self.resamples = resamples
        self._found: dict[tuple[str, str, str], Replicates] = {}
        if resamples:
            for samples in dict.fromkeys(run.id_file.samples for run in runs if run.id_file):
                same = [run for run in runs if run.id_file and run.id_file.samples == samples]
                self._found |= _of_same_id(same, resamples, seed)

    def replicates(self, run: Run, score: str, sets: Sequence[str]) -> Replicates | None:
        """Return the replicates of a score on a set, or of its mean over several; None if any is missing."""
        found = [self._found.get((run.name, score, name)) for name in sets]
        present = [each for each in found if each is not None]
        return mean_replicates(present) if present and len(present) == len(found) else None


def intervals(replicates: Replicates | None) -> Intervals | None:
    """Return the 95 % interval of each metric."""
    if replicates is None:
        return None
    return {name: percentile_interval(getattr(replicates, name)) for name in METRICS}


def same_samples(one: Run, other: Run, name: str) -> bool:
    """Return whether two runs scored the same ID images and the same images of a set."""
    sides = (one.id_file, other.id_file), (one.sets.get(name), other.sets.get(name))
    return all(a is not None and b is not None and a.samples == b.samples for a, b in sides)


def _of_same_id(runs: Sequence[Run], resamples: int, seed: int) -> dict[tuple[str, str, str], Replicates]:
    # A set of other images under the same name (some were skipped) is another set, with draws of its own.
    pairs = [(run, score, name) for run in runs for score, name in run.pairs()]
    ids = {f"{run.name}\n{score}": run.id_file.scores[score] for run, score, _ in pairs if run.id_file}
    oods: dict[str, dict[str, Float[np.ndarray, " n"]]] = {}
    for run, score, name in pairs:
        side = run.sets[name]
        oods.setdefault(f"{name}\n{side.samples}", {})[f"{run.name}\n{score}"] = side.scores[score]
    found = bootstrap(ids, oods, resamples, seed)
    return {
        (run.name, score, name): found[f"{run.name}\n{score}", f"{name}\n{run.sets[name].samples}"]
        for run, score, name in pairs
    }
