"""A threshold and p-values from the scores of ID images alone, with what they guarantee.

Split conformal prediction (arXiv 2107.07511): let n ID images be exchangeable with a new one, and none of them trained
on. Then the rank of the new score among theirs is uniform, whatever the distribution, and so is the p-value.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int

from mmood.errors import MmoodError
from mmood.settings import check_number

Scores = Float32[np.ndarray, " images"]


@dataclass(frozen=True)
class Calibration:
    """Scores of ID images and the share of ID images that is to be accepted.

    Attributes:
        scores: (n,) float32, ascending; higher = more in-distribution.
        id_recall: share of new ID images that is accepted, at least, in expectation.
    """

    scores: Scores
    id_recall: float

    @property
    def rank(self) -> int:
        """The place m of the threshold among the scores: floor((1 - id_recall) (n + 1)), counted from 1."""
        return rank_of(len(self.scores), self.id_recall)

    @property
    def threshold(self) -> float:
        """The m-th smallest score; an image is accepted from there on, that is when its p-value is above 1 - recall."""
        return float(self.scores[self.rank - 1])

    @property
    def below(self) -> int:
        """How many of the scores lie below the threshold: m - 1, or fewer where several equal it."""
        return int(np.searchsorted(self.scores, np.float32(self.threshold), side="left"))

    @property
    def at_threshold(self) -> int:
        """How many of the scores equal the threshold, at least one."""
        return int(np.searchsorted(self.scores, np.float32(self.threshold), side="right")) - self.below

    def p_values(self, scores: Scores) -> Float64[np.ndarray, " images"]:
        """Return (1 + #{calibration <= s}) / (n + 1): of an ID image at most q with a probability of at most q."""
        below = np.searchsorted(self.scores, scores.astype(np.float32), side="right")
        p_values: Float64[np.ndarray, " images"] = (1 + below) / (len(self.scores) + 1)
        return p_values

    def accepts(self, scores: Scores) -> Bool[np.ndarray, " images"]:
        """Return which images are accepted."""
        accepted: Bool[np.ndarray, " images"] = scores.astype(np.float32) >= np.float32(self.threshold)
        return accepted


def calibrate(scores: Float32[np.ndarray, " images"], id_recall: float) -> Calibration:
    """Return the calibration on scores of ID images in any order.

    Raises:
        MmoodError: the recall is not in (0, 1), a score is not finite, all scores are the same, or there are too few
            images for a threshold with this recall.
    """
    check_number("id_recall", id_recall, above=0, below=1)
    least = least_images(id_recall)
    if len(scores) < least:
        raise MmoodError(
            f"{len(scores)} ID images are too few for a threshold that accepts {id_recall:g} of them: with fewer than "
            f"{least} even the lowest score would reject more; give more images or a smaller id_recall."
        )
    if not np.isfinite(scores).all():
        bad = int(np.flatnonzero(~np.isfinite(scores))[0])
        raise MmoodError(f"The score of ID image {bad} is {scores[bad]}; a threshold needs finite scores.")
    ordered = np.sort(scores.astype(np.float32))
    if ordered[0] == ordered[-1]:
        raise MmoodError(f"All {len(scores)} ID images have the score {ordered[0]:g}; it tells nothing apart.")
    return Calibration(ordered, id_recall)


def rank_of(images: int, id_recall: float) -> int:
    """Return floor((1 - id_recall) (n + 1)) in exact arithmetic; 0 where no score is low enough for a threshold.

    >>> rank_of(19, 0.95), rank_of(18, 0.95), rank_of(9, 0.9)
    (1, 0, 1)
    """
    return math.floor((1 - Fraction(repr(float(id_recall)))) * (images + 1))


def least_images(id_recall: float) -> int:
    """Return how many ID images a threshold needs.

    >>> least_images(0.95), least_images(0.999)
    (19, 999)
    """
    return math.ceil(1 / (1 - Fraction(repr(float(id_recall))))) - 1


@dataclass(frozen=True)
class Band:
    """Where the accepted share of new ID images lies, over the draw of the calibration images.

    Attributes:
        mean: expected share.
        low, high: ends of the central interval.
        level: of the interval.
    """

    mean: float
    low: float
    high: float
    level: float

    def useless(self, id_recall: float) -> bool:
        """Return whether the images are so few that twice the rejected share that was asked for is within the band."""
        return self.low < 1 - 2 * (1 - id_recall)


def coverage_band(images: int, id_recall: float, new_images: int | None = None, level: float = 0.95) -> Band:
    """Return the band of the accepted share for scores without ties; ties can only raise the share.

    The share of an endless stream of new ID images is Beta(n + 1 - m, m) for the m-th smallest of n scores; that of N
    new images is beta-binomial with these parameters, divided by N.

    Args:
        images: n.
        id_recall: gives m.
        new_images: N; None for an endless stream.
        level: of the interval.
    """
    from scipy import stats  # not where a detector only decides

    rank = rank_of(images, id_recall)
    a, b = images + 1 - rank, rank
    tails = ((1 - level) / 2, (1 + level) / 2)
    if new_images is None:
        low, high = (float(stats.beta.ppf(q, a, b)) for q in tails)
    else:
        low, high = (float(stats.betabinom.ppf(q, new_images, a, b)) / new_images for q in tails)
    return Band(a / (a + b), low, high, level)


def benjamini_hochberg(p_values: Float64[np.ndarray, " images"], rate: float) -> Int[np.ndarray, " rejected"]:
    """Return which images are OoD with a false-discovery rate of at most `rate` (Benjamini & Hochberg, 1995).

    The k smallest p-values, for the largest k with p_(k) <= rate k / N. Conformal p-values of one calibration are
    positively dependent, so that the rate still holds (arXiv 2104.08279).

    >>> benjamini_hochberg(np.array([0.01, 0.9, 0.03]), 0.05).tolist()
    [0, 2]
    """
    check_rate(rate)
    ordered = np.sort(p_values)
    passing = np.flatnonzero(ordered <= rate * np.arange(1, len(ordered) + 1) / max(1, len(ordered)))
    if not len(passing):
        return np.empty(0, dtype=np.int64)
    return np.flatnonzero(p_values <= ordered[passing[-1]])


def check_rate(rate: float) -> None:
    """Raise MmoodError unless a false-discovery rate lies between 0 and 1."""
    if not 0 < rate < 1:
        raise MmoodError(f"fdr is {rate}; it is a false-discovery rate, between 0 and 1.")
