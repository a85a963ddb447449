"""From the arrays of a batch to the decisions on its images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

import numpy as np
from jaxtyping import Float32

from mmood.detector.calibration import Calibration
from mmood.detector.decisions import Decision
from mmood.detector.manifest import Manifest, shortest
from mmood.detector.scorer import Pixels, Prepared, Scored
from mmood.errors import ImageError

Judged: TypeAlias = tuple[list[Decision], Float32[np.ndarray, "images dim"] | None]
"""The decisions on a batch, and the embeddings of the images that are not broken, None if all are."""

_NOT_FINITE = "its score is not a finite number"


def readable(images: Sequence[Prepared]) -> Pixels | None:
    """Return the pixels of the images of a batch that can be read; None if none can."""
    pixels = [entry for entry in images if not isinstance(entry, ImageError)]
    return np.stack(pixels) if pixels else None


def all_broken(images: Sequence[Prepared]) -> Judged:
    """Return the decisions on a batch of which no image can be read."""
    return [Decision("broken", reason=str(entry)) for entry in images], None


def judged(images: Sequence[Prepared], scored: Scored, calibration: Calibration, manifest: Manifest) -> Judged:
    """Return the decisions on a batch.

    Args:
        images: the images, broken ones included.
        scored: the arrays of those that can be read.
        calibration: threshold and p-values.
        manifest: names and probabilities.
    """
    found = _decisions(scored, calibration, manifest)
    decisions = [
        Decision("broken", reason=str(entry)) if isinstance(entry, ImageError) else next(found) for entry in images
    ]
    return decisions, scored.embedding[np.isfinite(scored.scores)]


def _decisions(scored: Scored, calibration: Calibration, manifest: Manifest) -> Iterator[Decision]:
    names, labels = manifest.class_names, manifest.negative_labels
    finite = np.isfinite(scored.scores)
    safe = np.where(finite, scored.scores, np.float32(0))
    accepted, p_values = calibration.accepts(safe), calibration.p_values(safe)
    classes, probability = scored.logits.argmax(axis=1), manifest.probability.of(scored.logits)
    for row in range(len(safe)):
        if not finite[row]:
            yield Decision("broken", reason=_NOT_FINITE)
            continue
        yield Decision(
            accepted=bool(accepted[row]),
            score=shortest(safe[row]),
            p_value=float(p_values[row]),
            class_name=names[int(classes[row])],
            probability=None if probability is None else float(probability[row]),
            negative_label=None if scored.negative is None else labels[int(scored.negative[row])],
        )
