"""From the scores of clean and attacked images to the rows of results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float32

from mmood.attacks.settings import AttackSettings
from mmood.data.datamodule import EvaluationSet
from mmood.evaluation.rows import id_rows
from mmood.evaluation.store import SetScores, joined_scores
from mmood.metrics.functional import ood_metrics
from mmood.report.curves import id_threshold
from mmood.results.attack import AttackRow, Side
from mmood.results.blocks import label
from mmood.results.model import IdRow, ResultRow

Values = Float32[np.ndarray, " n"]
CLEAN = "clean"


@dataclass(frozen=True)
class Point:
    """Which images: clean ones, or those that were made for a score within a radius, or a manipulation.

    Attributes:
        attacked: the score; None for clean images and a manipulation.
        eps: the radius; None likewise.
        manipulated: whether it is a manipulation.
    """

    attacked: str | None = None
    eps: str | None = None
    manipulated: bool = False


CLEAN_POINT = Point()


@dataclass(frozen=True)
class Measured:
    """The scores of one detector.

    Attributes:
        detector: None for the one that was attacked.
        sets: of the test, by name.
        found: scores of clean and attacked sets.
    """

    detector: str | None
    sets: Mapping[str, EvaluationSet]
    found: Mapping[tuple[Point, str], SetScores]

    @property
    def id_set(self) -> str:
        """Name of the ID set."""
        return next(name for name, entry in self.sets.items() if entry.group == "id")

    def points(self) -> list[Point]:
        """Return the points of attacked images, in the order in which they were made."""
        return [point for point in dict.fromkeys(point for point, _ in self.found) if point != CLEAN_POINT]

    def names(self, point: Point) -> list[str]:
        """Return the scores to show of a point: the attacked one, or all if the images were made for no own score."""
        names = self.found[CLEAN_POINT, self.id_set].names
        own = self.detector is None and point.attacked is not None
        return [name for name in names if not own or name == point.attacked]

    def sides(self, point: Point) -> dict[Side, tuple[Point, Point]]:
        """Return the combinations of ID and OoD images of a point: (point of the ID images, of the OoD images)."""
        if point == CLEAN_POINT:
            return {"clean": (point, point)}
        hides = any((point, name) in self.found for name in self.sets if name != self.id_set)
        breaks = (point, self.id_set) in self.found
        sides: dict[Side, tuple[Point, Point]] = {}
        if hides:
            sides["ood-as-id"] = (CLEAN_POINT, point)
        if breaks:
            sides["id-as-ood"] = (point, CLEAN_POINT)
        if hides and breaks:
            sides["both"] = (point, point)
        return sides

    def rows(self) -> Iterator[AttackRow]:
        """Yield the rows, clean ones first."""
        for point in (CLEAN_POINT, *self.points()):
            for side, (of_id, of_ood) in self.sides(point).items():
                for score in self.names(point):
                    for name, entry in self.sets.items():
                        if name != self.id_set and len(self.found[of_ood, name].key):
                            yield self._row(point, side, score, entry, of_id, of_ood)

    def _row(
        self, point: Point, side: Side, score: str, entry: EvaluationSet, of_id: Point, of_ood: Point
    ) -> AttackRow:
        id_before, id_after = (self.found[at, self.id_set].of(score) for at in (CLEAN_POINT, of_id))
        ood_before, ood_after = (self.found[at, entry.name].of(score) for at in (CLEAN_POINT, of_ood))
        threshold = id_threshold(np.sort(id_before))
        metrics = ood_metrics(id_after, ood_after)
        return AttackRow(
            detector=self.detector,
            score=score,
            attacked=point.attacked,
            side=side,
            eps=point.eps,
            set=entry.name,
            group=entry.group,
            n_id=len(id_after),
            n_ood=len(ood_after),
            auroc=metrics.auroc,
            fpr95_id_pos=metrics.fpr95_id_pos,
            ood_accepted=float((ood_after >= threshold).mean()),
            id_accepted=float((id_after >= threshold).mean()),
            hidden=None if of_ood == CLEAN_POINT else _share(ood_after >= threshold, ood_before < threshold),
            broken=None if of_id == CLEAN_POINT else _share(id_after < threshold, id_before >= threshold),
        )

    def result_rows(self, settings: AttackSettings) -> list[ResultRow]:
        """Return the rows of `results.json`: the variant `clean`, and one for each radius and direction."""
        return [
            ResultRow(
                score=score,
                variant=variant(settings, point, side),
                set=name,
                group=entry.group,
                metrics=ood_metrics(self.found[of_id, self.id_set].of(score), self.found[of_ood, name].of(score)),
            )
            for point in (CLEAN_POINT, *self.points())
            for side, (of_id, of_ood) in self.sides(point).items()
            for score in self.names(point)
            for name, entry in self.sets.items()
            if name != self.id_set and len(self.found[of_ood, name].key)
        ]

    def id_rows(self, settings: AttackSettings) -> list[IdRow]:
        """Return the accuracy on the clean ID images, and on attacked ones."""
        of_id = {self.id_set: self.sets[self.id_set]}
        rows = id_rows(of_id, {self.id_set: self.found[CLEAN_POINT, self.id_set]}, CLEAN)
        for point in self.points():
            if (point, self.id_set) in self.found:
                name = f"{point.attacked}: {variant(settings, point, 'id-as-ood')}"
                rows += id_rows(of_id, {self.id_set: self.found[point, self.id_set]}, name)
        return rows

    def arrays(self, settings: AttackSettings) -> list[SetScores]:
        """Return the scores of every set, each variant of a score by the name that it has in tables."""
        columns: dict[str, list[SetScores]] = {name: [] for name in self.sets}
        for point in (CLEAN_POINT, *self.points()):
            for side, (of_id, of_ood) in self.sides(point).items():
                for name, found in columns.items():
                    scores = self.found[of_id if name == self.id_set else of_ood, name]
                    found.append(_named(scores, self.names(point), variant(settings, point, side)))
        return [joined_scores(found) for found in columns.values()]


def variant(settings: AttackSettings, point: Point, side: Side) -> str:
    """Return what results call images: `clean`, `manipulation`, or method, norm, radius and direction."""
    if side == "clean":
        return CLEAN
    return "manipulation" if point.manipulated else f"{settings.method} {settings.norm} {point.eps} {side}"


def _named(scores: SetScores, names: list[str], of: str) -> SetScores:
    columns = [scores.names.index(name) for name in names]
    return replace(scores, names=tuple(label(name, of) for name in names), scores=scores.scores[:, columns])


def _share(changed: np.ndarray, among: np.ndarray) -> float | None:
    return float(changed[among].mean()) if among.any() else None
