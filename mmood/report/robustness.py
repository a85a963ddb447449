"""What breaks a detector first: its AUROC under shift, attack and certificate beside the clean one, over runs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from mmood.report.conditions import KINDS, Condition, Kind, split_variant
from mmood.report.runs import Run
from mmood.results.blocks import label
from mmood.results.model import ResultRow

CHANCE = 0.5
"""The AUROC of a score that knows nothing."""


@dataclass(frozen=True)
class Point:
    """A detector under one condition, in the mean over the OoD sets.

    Attributes:
        condition: what it was measured under.
        auroc: in [0, 1].
        clean: its clean AUROC on the same sets; None where no run has it.
    """

    condition: Condition
    auroc: float
    clean: float | None

    @property
    def loss(self) -> float | None:
        """How much AUROC the condition costs; None without a clean number."""
        return None if self.clean is None else self.clean - self.auroc

    @property
    def broken(self) -> bool:
        """Whether at least half of what the clean detector is above chance is lost."""
        return self.clean is not None and self.auroc <= (self.clean + CHANCE) / 2


@dataclass(frozen=True)
class Family:
    """A condition at all strengths that were tested, the weakest first."""

    kind: Kind
    name: str
    points: tuple[Point, ...]

    @property
    def first_broken(self) -> Point | None:
        """The weakest condition that breaks the detector; None where none does."""
        return next((point for point in self.points if point.broken), None)

    @property
    def first_loss(self) -> float:
        """What the weakest condition costs; minus infinity where that is not known."""
        loss = self.points[0].loss
        return float("-inf") if loss is None else loss


@dataclass(frozen=True)
class Detector:
    """A score of a model, with all that was measured of it.

    Attributes:
        name: of the score; with the run where several have the same.
        clean: AUROC in the mean over the sets of the run with most of them; None where no run is clean.
        families: of conditions, in the order of the page.
    """

    name: str
    clean: float | None
    families: tuple[Family, ...]

    def ranked(self) -> list[Family]:
        """Return the families, first what costs most at the weakest strength that was tested."""
        return sorted(self.families, key=lambda family: -family.first_loss)


@dataclass(frozen=True)
class _Measured:
    """A row, and where it comes from."""

    run: Run
    row: ResultRow
    condition: Condition


def detectors_of(runs: Sequence[Run]) -> list[Detector]:
    """Return the detectors of the runs that were measured under another condition than clean; none if no one was.

    A detector is a score with its settings on one model, in whichever runs; test-time scores are left out, because
    their numbers depend on the stream.
    """
    rows: dict[tuple[str, str], list[_Measured]] = {}
    for run in runs:
        for row in run.results.rows:
            if row.protocol == "static":
                own, condition = split_variant(row.variant)
                rows.setdefault((label(row.score, own), _identity(run, row)), []).append(_Measured(run, row, condition))
    tested = {key: found for key, found in rows.items() if any(one.condition.kind != "clean" for one in found)}
    names = [name for name, _ in tested]
    return [
        _detector(name if names.count(name) == 1 else f"{name} ({found[0].run.name})", found)
        for (name, _), found in tested.items()
    ]


def _detector(name: str, found: Sequence[_Measured]) -> Detector:
    clean = [one for one in found if one.condition.kind == "clean"]
    runs = {one.run.name: [other for other in clean if other.run is one.run] for one in clean}
    largest = max(runs.values(), key=len, default=[])
    conditions = dict.fromkeys(one.condition for one in found if one.condition.kind != "clean")
    points = [
        _point(condition, [one for one in found if one.condition == condition], clean) for condition in conditions
    ]
    families: dict[tuple[Kind, str], list[Point]] = {}
    for point in sorted(points, key=lambda point: (KINDS.index(point.condition.kind), point.condition.strength)):
        families.setdefault((point.condition.kind, point.condition.family), []).append(point)
    mean = fmean(one.row.metrics.auroc for one in largest) if largest else None
    return Detector(name, mean, tuple(Family(kind, of, tuple(own)) for (kind, of), own in families.items()))


def _point(condition: Condition, found: Sequence[_Measured], clean: Sequence[_Measured]) -> Point:
    matched = [_clean_of(one, clean) for one in found]
    auroc = fmean(one.row.metrics.auroc for one in found)
    known = [one for one in matched if one is not None]
    return Point(condition, auroc, fmean(known) if len(known) == len(found) else None)


def _clean_of(one: _Measured, clean: Iterable[_Measured]) -> float | None:
    """Return the clean AUROC on the set of a row: of the same run, or of another with as many images."""
    same_set = [other for other in clean if other.row.set == one.row.set]
    own = [other for other in same_set if other.run is one.run]
    alike = [other for other in same_set if _sizes(other) == _sizes(one)]
    found = next(iter([*own, *alike]), None)
    return None if found is None else found.row.metrics.auroc


def _sizes(one: _Measured) -> tuple[int, int]:
    return one.row.metrics.n_id, one.row.metrics.n_ood


def _identity(run: Run, row: ResultRow) -> str:
    """Return what tells two detectors with the same name of a score apart, as far as the run says it."""
    recorded = run.results.provenance
    encoder, scores = recorded.get("encoder"), recorded.get("scores")
    weights = encoder.get("weights_sha256") if isinstance(encoder, dict) else None
    settings = scores.get(row.score) if isinstance(scores, dict) else None
    return json.dumps([weights, recorded.get("class_names"), settings], sort_keys=True, default=str)
