"""Calibration images with the very score of the threshold, which no threshold can separate."""

from __future__ import annotations

import math
from fractions import Fraction

from mmood.detector.calibration.conformal import Calibration, coverage_band


def ties_at_threshold(calibration: Calibration) -> str | None:
    """Return a sentence if ties make the threshold accept more than its band says; None otherwise.

    All images with the score of the threshold are accepted, so the promise to ID images holds, and fewer OoD images are
    rejected. The share of the calibration images that is accepted is held against `coverage_band`, because two
    images of many that happen to have the same score change nothing.

    Args:
        calibration: scores and threshold.
    """
    n, below, equal = len(calibration.scores), calibration.below, calibration.at_threshold
    if equal == 1 or 1 - below / n <= coverage_band(n, calibration.id_recall).high:
        return None
    higher = (
        f"the next higher threshold rejects {(below + equal) / n:.1%} (id_recall {_recall_of(n, below + equal + 1)})"
        if below + equal < n
        else "there is no higher one"
    )
    rejected, asked = below / n, 1 - calibration.id_recall
    return (
        f"{equal} of the {n} calibration images have the score of the threshold, {calibration.threshold:.6g}, and "
        f"{below} a lower one, so {rejected:.1%} of them are rejected in place of the {asked:.1%} asked for: no "
        f"threshold separates equal scores, and {higher}. Use a score that separates these images."
    )


def _recall_of(images: int, rank: int) -> float:
    """Return the largest id_recall with few digits that takes the score of this rank for the threshold."""
    scale = int(10 ** (len(str(images)) + 1))
    return math.floor((1 - Fraction(rank, images + 1)) * scale) / scale
