"""An OoD set by the classes that its images really show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from mmood.metrics.bootstrap import placements
from mmood.report.curves import id_threshold


@dataclass(frozen=True)
class ClassLine:
    """One original class of an OoD set.

    Attributes:
        name: of the class.
        n: its number of images.
        auroc: of all ID images against these.
        accepted: share of them accepted where 95 % of ID is accepted.
        taken_for: the ID class that most of them are nearest to, as an index; -1 if nothing was predicted.
        taken: share of them that are.
    """

    name: str
    n: int
    auroc: float
    accepted: float
    taken_for: int
    taken: float


def by_class(
    id_scores: Float[np.ndarray, " id"],
    ood_scores: Float[np.ndarray, " ood"],
    predicted: Int[np.ndarray, " ood"],
    names: Sequence[str],
) -> list[ClassLine]:
    """Return a line for each named class of an OoD set, the hardest (lowest AUROC) first.

    Args:
        id_scores: of all ID images.
        ood_scores: of the set.
        predicted: nearest ID class of each of its images.
        names: original class of each of its images, "" if unknown.
    """
    outranked = placements(id_scores, ood_scores).ood
    accepted = ood_scores >= id_threshold(np.sort(id_scores))
    members: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        if name:
            members.setdefault(name, []).append(place)
    lines = []
    for name, places in members.items():
        classes, counts = np.unique(predicted[places], return_counts=True)
        lines.append(
            ClassLine(
                name=name,
                n=len(places),
                auroc=float(outranked[places].mean()),
                accepted=float(accepted[places].mean()),
                taken_for=int(classes[counts.argmax()]),
                taken=float(counts.max() / len(places)),
            )
        )
    return sorted(lines, key=lambda line: (line.auroc, line.name))
