"""What the evaluation of the pixels of one set leaves behind: scores, or counts of them, over all ranks."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int16, Int64
from torch import Tensor

from mmood.dense.detector import DenseEvaluated
from mmood.dense.labels import MOST_CLASSES, OOD
from mmood.errors import MmoodError
from mmood.metrics.components import ComponentMetrics, component_metrics
from mmood.metrics.confidence import Confidences
from mmood.metrics.functional import OoDMetrics
from mmood.metrics.gather import gathered, summed
from mmood.metrics.pixels import Histogram, best_threshold, exact_metrics

_BYTE = 256
_ACCEPTED = 0.95


@dataclass(frozen=True)
class Conventions:
    """The metrics of one score under the two conventions; None where a side has no pixel.

    Attributes:
        ood: pixels of ID classes against OoD pixels.
        errors: pixels of ID classes that are predicted correctly against those that are not.
        auroc_error: by how much the AUROC of the first can be off; 0 where it is exact.
    """

    ood: OoDMetrics | None
    errors: OoDMetrics | None
    auroc_error: float


@dataclass(frozen=True)
class Rejected:
    """What the threshold of a score rejects that accepts 95 % of the pixels of ID classes.

    Attributes:
        threshold: lower scores are rejected.
        shares: the share of the pixels of each class that are, and of OoD pixels under `OOD`; classes without any pixel
            are left out.
    """

    threshold: float
    shares: dict[int, float]


class PixelStore:
    """The pixels of one set on this rank. `gather` makes them those of all ranks; every rank must enter it.

    Args:
        names: names of the scores.
        classes: C, number of ID classes.
        exact: keep the score of every pixel (4 bytes a pixel and score, and 2 a pixel); otherwise only counts.
        log_odds: which scores are log-odds of being right, so that they have a calibration error.
    """

    def __init__(self, names: tuple[str, ...], classes: int, exact: bool, log_odds: tuple[bool, ...]) -> None:
        self.names = names
        self.classes = classes
        self.exact = exact
        self.log_odds = log_odds
        self.confusion: Int64[np.ndarray, "classes classes"] = np.zeros((classes, classes), dtype=np.int64)
        self.confidences = {name: Confidences(classes + 1) for name, kept in zip(names, log_odds, strict=True) if kept}
        self._histograms = [] if exact else [(Histogram(), Histogram()) for _ in names]
        # (n, 2, H, W) bytes: the target, with -1 as 255 and -2 as 254, and whether the prediction is right.
        self._codes: list[Tensor] = []
        self._maps: list[Tensor] = []

    def add(self, evaluated: DenseEvaluated) -> None:
        """Add a batch."""
        targets, right = evaluated.targets.cpu(), (evaluated.predicted == evaluated.targets).cpu()
        maps = evaluated.maps.float().cpu()
        if torch.isnan(maps).any():
            name = self.names[int(torch.isnan(maps).flatten(1).any(dim=1).int().argmax())]
            raise MmoodError(f"The score '{name}' is NaN for some pixels; a score must be a number or an infinity.")
        self._count(targets, evaluated.predicted.cpu(), right, maps)
        if self.exact:
            self._codes.append(torch.stack([targets.remainder(_BYTE), right.long()], dim=1).to(torch.uint8))
            self._maps.append(maps.movedim(0, 1).contiguous())
            return
        is_id, is_ood = targets >= 0, targets == OOD
        for (ood, errors), scores in zip(self._histograms, maps, strict=True):
            ood.add(scores[is_id | is_ood].numpy(), is_ood[is_id | is_ood].numpy())
            errors.add(scores[is_id].numpy(), ~right[is_id].numpy())

    def gather(self, device: torch.device) -> None:
        """Make this store that of all ranks; every rank must enter."""
        self.confusion = _summed(self.confusion, device)
        for confidences in self.confidences.values():
            confidences.sums = _summed(confidences.sums, device)
        for pair in self._histograms:
            for histogram in pair:
                histogram.counts = _summed(histogram.counts, device)
        if self.exact:
            # Every rank has a batch, if an empty one.
            self._codes, self._maps = (
                [gathered(pieces, pieces[0][:0], device)] for pieces in (self._codes, self._maps)
            )

    def metrics(self) -> dict[str, Conventions]:
        """Return the metrics of each score."""
        return {name: self._of_score(place) for place, name in enumerate(self.names)}

    def components(self, name: str, smallest: int) -> ComponentMetrics | None:
        """Return the component metrics at the threshold with the best F1 over pixels; None if not exact, or no OoD."""
        if not self.exact or not self._maps:
            return None
        scores, (targets, _) = self._map(self.names.index(name)), self._decoded()
        is_ood, counted = targets == OOD, (targets == OOD) | (targets >= 0)
        if not is_ood.any():
            return None
        threshold = best_threshold(scores[counted], is_ood[counted])
        images = ((is_ood[i], scores[i] <= threshold, counted[i]) for i in range(len(scores)))
        return component_metrics(images, smallest)

    def rejected(self, name: str) -> Rejected | None:
        """Return which pixels of each class a threshold rejects; None if not exact, or without ID pixels."""
        if not self.exact or not self._maps:
            return None
        scores, (targets, _) = self._map(self.names.index(name)), self._decoded()
        of_id = scores[targets >= 0]
        if not len(of_id):
            return None
        place = len(of_id) - math.ceil(_ACCEPTED * len(of_id))
        threshold = float(np.partition(of_id, place)[place])
        groups = targets[targets >= OOD] - OOD
        counts, below = (
            np.bincount(chosen, minlength=self.classes + 1)
            for chosen in (groups, groups[scores[targets >= OOD] < threshold])
        )
        shares = {int(group) + OOD: float(below[group] / counts[group]) for group in np.flatnonzero(counts)}
        return Rejected(threshold, shares)

    def intersection_over_union(self) -> dict[int, float]:
        """Return the IoU of each class over the pixels of ID classes; classes without any pixel are left out."""
        right = np.diag(self.confusion)
        union = self.confusion.sum(axis=0) + self.confusion.sum(axis=1) - right
        return {int(c): float(right[c] / union[c]) for c in np.flatnonzero(self.confusion.sum(axis=1))}

    def _count(self, targets: Tensor, predicted: Tensor, right: Tensor, maps: Tensor) -> None:
        is_id, is_ood = targets >= 0, targets == OOD
        cells = targets[is_id] * self.classes + predicted[is_id]
        self.confusion += torch.bincount(cells, minlength=self.classes**2).view(self.classes, -1).numpy()
        counted = is_id | is_ood
        groups = torch.where(is_id, targets, self.classes)[counted].numpy()
        for name, scores in zip(self.names, maps, strict=True):
            if name in self.confidences:
                confidence = scores[counted].double().sigmoid().numpy()
                self.confidences[name].add(confidence, right[counted].numpy(), groups)

    def _of_score(self, place: int) -> Conventions:
        if not self.exact:
            ood, errors = self._histograms[place]
            return Conventions(_of_counts(ood), _of_counts(errors), ood.auroc_error())
        if not self._maps:
            return Conventions(None, None, 0.0)
        scores, (targets, right) = self._map(place), self._decoded()
        is_id, is_ood = targets >= 0, targets == OOD
        counted = is_id | is_ood
        return Conventions(_of_scores(scores[counted], is_ood[counted]), _of_scores(scores[is_id], ~right[is_id]), 0.0)

    def _decoded(self) -> tuple[Int16[np.ndarray, "images height width"], Bool[np.ndarray, "images height width"]]:
        codes = self._codes[0].numpy()
        targets = codes[:, 0].astype(np.int16)
        targets[targets >= MOST_CLASSES] -= _BYTE
        return targets, codes[:, 1].astype(bool)

    def _map(self, place: int) -> Float32[np.ndarray, "images height width"]:
        found: Float32[np.ndarray, "images height width"] = self._maps[0][:, place].numpy()
        return found


def _of_scores(scores: Float32[np.ndarray, " n"], is_ood: Bool[np.ndarray, " n"]) -> OoDMetrics | None:
    return exact_metrics(scores, is_ood) if is_ood.any() and not is_ood.all() else None


def _of_counts(histogram: Histogram) -> OoDMetrics | None:
    return histogram.metrics() if histogram.counts.sum(axis=1).all() else None


def _summed(counts: np.ndarray, device: torch.device) -> np.ndarray:
    return summed(torch.from_numpy(counts), device).numpy()
