"""What makes one setting of a score better than another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from mmood.errors import MmoodError
from mmood.metrics.functional import auroc, mean_rates, ood_metrics
from mmood.scores.base import AbstractScore, Embedded, Reference
from mmood.tuning.held_out import WithoutClasses, class_folds
from mmood.tuning.recorder import Recorded

HELD_OUT_CLASSES = "held_out_classes"
CRITERIA = {
    "auroc": "mean AUROC against the validation OoD sets; the default",
    "fpr95_id_pos": "mean share of OoD accepted at 95 % of ID accepted; the lowest wins",
    "fpr95_ood_pos": "mean share of ID rejected at 95 % of OoD rejected; the lowest wins",
    HELD_OUT_CLASSES: "mean AUROC of ID validation images against those of ID classes left out; needs no OoD images",
}

Scores = NDArray[np.float32]
Build = Callable[[], AbstractScore]
Prepared = Callable[[Build, Reference], AbstractScore]


@dataclass(frozen=True)
class Sets:
    """What is known when the settings are compared.

    Attributes:
        reference: the ID side.
        id: the ID validation set.
        ood: the validation OoD sets by name.
        device: where scores are computed.
    """

    reference: Reference
    id: Recorded
    ood: Mapping[str, Recorded]
    device: torch.device


def values(criterion: str, builds: Sequence[Build], sets: Sets) -> list[float]:
    """Return the value of the criterion for each score; one is fitted at a time.

    Raises:
        MmoodError: a score cannot be fitted or computed, or the ID validation set is too small.
    """
    if criterion == HELD_OUT_CLASSES:
        return held_out_classes(builds, sets)
    found = []
    for build in builds:
        score = build().fit(sets.reference)
        id_scores = scored(score, sets.id.embedded, sets.device)
        rates = [ood_metrics(id_scores, scored(score, ood.embedded, sets.device)) for ood in sets.ood.values()]
        found.append(float(getattr(mean_rates(rates), criterion)))
    return found


def held_out_classes(builds: Sequence[Build], sets: Sets) -> list[float]:
    """Return for each score the mean AUROC over folds of ID classes that stand for OoD in turn.

    In each of five folds a fifth of the ID classes is left out: the score is fitted without their names, prototypes and
    training images, their logits are dropped, and their validation images count as OoD. Leaving classes out to get OoD
    images is due to Vyas et al. (arXiv 1809.03576). It is chosen here because it needs no guess at what OoD will look
    like, compares settings by the AUROC that the test reports, and asks for no images but those of `data.val.id`. What
    it measures is near-OoD; a head that was trained on all classes knows those left out.

    Raises:
        MmoodError: there are fewer than three classes, or the validation set has images of too few.
    """
    folds = class_folds(len(sets.reference.class_names))
    totals, used = np.zeros(len(builds)), 0
    for left_out in folds:
        inside = torch.isin(sets.id.label, left_out).numpy()
        if inside.all() or not inside.any():
            continue
        used += 1
        rest = torch.tensor([c for c in range(len(sets.reference.class_names)) if c not in set(left_out.tolist())])
        reference = WithoutClasses(sets.reference, rest)
        batches = [reference.embedded(batch) for batch in sets.id.embedded]
        for number, build in enumerate(builds):
            found = scored(build().fit(reference), batches, sets.device)
            totals[number] += auroc(found[~inside], found[inside])
    if not used:
        raise MmoodError("--criterion held_out_classes needs ID validation images of several classes; name more.")
    return [float(total) for total in totals / used]


@torch.no_grad()
def scored(score: AbstractScore, batches: Iterable[Embedded], device: torch.device) -> Scores:
    """Return the scores of recorded images, float32.

    Raises:
        MmoodError: a score is NaN.
    """
    found = torch.cat([score(batch.to(device)).float().cpu() for batch in batches]).numpy()
    if np.isnan(found).any():
        raise MmoodError(f"{type(score).__name__} with {score.settings()} gives a NaN on a validation image.")
    return found


def best(found: Sequence[float], criterion: str) -> int:
    """Return the number of the best value, the first of equals.

    >>> best([0.5, 0.9, 0.9], "auroc"), best([0.5, 0.1], "fpr95_id_pos")
    (1, 1)
    """
    better = [-value for value in found] if criterion.startswith("fpr95") or criterion == "nll" else list(found)
    return better.index(max(better))


def negative_log_likelihood(
    logits: Float[Tensor, "images classes"], labels: Int[Tensor, " images"], temperature: float
) -> float:
    """Return the mean of -log softmax(logits / T) of the true class, in nats.

    >>> round(negative_log_likelihood(torch.zeros(3, 2), torch.tensor([0, 1, 1]), 1.0), 6)  # log 2
    0.693147
    """
    return float(torch.nn.functional.cross_entropy(logits.double() / temperature, labels))
