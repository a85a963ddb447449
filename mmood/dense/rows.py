"""From the pixels of sets to rows of results, and to the details beside them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from mmood.dense.labels import OOD
from mmood.dense.pixel_store import Conventions, PixelStore
from mmood.evaluation.store import SetScores
from mmood.metrics.functional import OoDMetrics, ood_metrics
from mmood.results.model import ResultRow

PIXELS, ERRORS, IMAGES = "pixels", "errors", "images"
"""The conventions: ID against OoD pixels, correct against wrong ID pixels, images without against images with OoD."""


def dense_rows(name: str, metrics: Mapping[str, Conventions], images: SetScores) -> list[ResultRow]:
    """Return a row for each score and convention that has both sides.

    Args:
        name: of the set.
        metrics: of its pixels, by score.
        images: the pooled scores of its images.
    """
    rows = []
    for score, found in metrics.items():
        sides: dict[str, OoDMetrics | None] = {PIXELS: found.ood, ERRORS: found.errors, IMAGES: _of(images, score)}
        rows += [
            ResultRow(score=score, set=f"{name}: {convention}", group=convention, metrics=of_sides)
            for convention, of_sides in sides.items()
            if of_sides is not None
        ]
    return rows


def _of(images: SetScores, score: str) -> OoDMetrics | None:
    is_ood = images.label < 0
    values = images.of(score)
    return ood_metrics(values[~is_ood], values[is_ood]) if is_ood.any() and not is_ood.all() else None


def details(
    sets: Mapping[str, PixelStore],
    metrics: Mapping[str, Mapping[str, Conventions]],
    class_names: Sequence[str],
    smallest_component: int | None,
) -> dict[str, Any]:
    """Return, as plain data, what a row has no column for.

    That is IoU and rejected pixels of classes, calibration, components and errors of counting.

    Args:
        sets: the pixels of each set, gathered.
        metrics: of each set, by score.
        class_names: of the ID classes.
        smallest_component: in pixels; None to leave components and rejected pixels out.
    """
    return {
        "classes": list(class_names),
        "sets": {
            name: _details(pixels, metrics[name], class_names, smallest_component) for name, pixels in sets.items()
        },
    }


def _details(
    pixels: PixelStore, metrics: Mapping[str, Conventions], class_names: Sequence[str], smallest: int | None
) -> dict[str, Any]:
    iou = pixels.intersection_over_union()
    scores: dict[str, Any] = {}
    for name, found in metrics.items():
        scores[name] = {"exact": pixels.exact, "auroc_error": found.auroc_error}
        if name in pixels.confidences:
            table = pixels.confidences[name]
            scores[name] |= {"ece": table.ece(), "ace": table.ace()}
        rejected = None if smallest is None else pixels.rejected(name)
        if rejected is not None and math.isfinite(rejected.threshold):
            shares = {class_names[c]: share for c, share in rejected.shares.items() if c != OOD}
            scores[name] |= {"threshold": rejected.threshold, "rejected": shares}
            scores[name]["rejected_ood"] = rejected.shares.get(OOD)
        components = None if smallest is None else pixels.components(name, smallest)
        if components is not None:
            scores[name]["components"] = asdict(components)
    return {
        "mean_iou": float(np.mean(list(iou.values()))) if iou else None,
        "iou": {class_names[c]: value for c, value in iou.items()},
        "scores": scores,
    }


def detail_lines(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield what the table does not show, a line for each set and score."""
    for name, of_set in found["sets"].items():
        if of_set["mean_iou"] is not None:
            yield f"{name}: mean IoU of the classes {100 * of_set['mean_iou']:.2f} %."
        for score, of_score in of_set["scores"].items():
            parts = []
            if "ece" in of_score:
                parts.append(f"ECE {100 * of_score['ece']:.2f}, ACE {100 * of_score['ace']:.2f}")
            if "components" in of_score:
                values = of_score["components"]
                parts.append(
                    f"components: sIoU {100 * values['siou']:.2f}, PPV {100 * values['ppv']:.2f}, "
                    f"mean F1 {100 * values['f1']:.2f}"
                )
            if not of_score["exact"]:
                parts.append(f"from counts, the AUROC is off by at most {100 * of_score['auroc_error']:.4f}")
            if parts:
                yield f"{name}, {score}: {'; '.join(parts)}."
