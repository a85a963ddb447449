"""What the pictures show, as numbers: ROC curves, histograms and risk-coverage, thinned to what an eye can see."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Num

Scores = Num[np.ndarray, " n"]
ROC_POINTS = 100  # on each axis
BINS = 40
RISK_POINTS = 100


class Curve(NamedTuple):
    """Points of a curve, x ascending."""

    x: Float[np.ndarray, " points"]
    y: Float[np.ndarray, " points"]


class Histograms(NamedTuple):
    """Shares of two sides in the same bins, and where the threshold of 95 % ID recall lies among them (0 to 1)."""

    id: Float[np.ndarray, " bins"]
    ood: Float[np.ndarray, " bins"]
    low: float
    high: float
    threshold: float


def roc(id_sorted: Scores, ood_sorted: Scores) -> Curve:
    """Return exact points of the ROC curve (x: OoD accepted, y: ID accepted) at even steps of both axes.

    Args:
        id_sorted: ascending.
        ood_sorted: ascending.
    """
    thresholds = np.unique(np.concatenate([_even(id_sorted), _even(ood_sorted)]))[::-1]
    x = 1 - np.searchsorted(ood_sorted, thresholds, side="left") / len(ood_sorted)
    y = 1 - np.searchsorted(id_sorted, thresholds, side="left") / len(id_sorted)
    points = np.unique(np.stack([np.r_[0, x, 1], np.r_[0, y, 1]], axis=1), axis=0)
    return Curve(points[:, 0], points[:, 1])


def id_threshold(id_sorted: Scores) -> float:
    """Return the highest score that accepts at least 95 % of ID."""
    return float(id_sorted[len(id_sorted) - math.ceil(Fraction(95, 100) * len(id_sorted))])


def histograms(id_sorted: Scores, ood_sorted: Scores) -> Histograms:
    """Return shares in bins over the middle 99.8 % of either side; what lies outside counts in the bins at the ends."""
    low, high = _finite_range(id_sorted, ood_sorted)
    edges = np.linspace(low, high, BINS + 1)
    threshold = (id_threshold(id_sorted) - low) / (high - low)
    return Histograms(_shares(id_sorted, edges), _shares(ood_sorted, edges), low, high, float(np.clip(threshold, 0, 1)))


def risk_coverage(scores: Scores, correct: Bool[np.ndarray, " n"]) -> tuple[Curve, float]:
    """Return the error of the classifier on the most confident share of ID images, and its mean over all coverages.

    Equal scores are in no order, so each of them counts with the error of all: the expectation over random orders.
    """
    order = np.argsort(-scores, kind="stable")
    error = _mean_over_ties(scores[order], ~correct[order])
    risk = np.cumsum(error) / np.arange(1, len(error) + 1)
    shown = np.unique(np.linspace(0, len(risk) - 1, RISK_POINTS).round().astype(int))
    return Curve((shown + 1) / len(risk), risk[shown]), float(risk.mean())


def _mean_over_ties(scores: Scores, values: Bool[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    starts = np.flatnonzero(np.r_[True, scores[1:] != scores[:-1]])
    sizes = np.diff(np.r_[starts, len(scores)])
    return np.repeat(np.add.reduceat(values.astype(float), starts) / sizes, sizes)


def _even(ascending: Scores) -> Scores:
    places: Int[np.ndarray, " points"] = np.linspace(0, len(ascending) - 1, ROC_POINTS).round().astype(int)
    chosen: Scores = ascending[places]
    return chosen


def _finite_range(*sides: Scores) -> tuple[float, float]:
    ends = [side[[round(0.001 * (len(side) - 1)), round(0.999 * (len(side) - 1))]] for side in sides]
    finite = np.concatenate(ends)[np.isfinite(np.concatenate(ends))]
    if not len(finite):
        return 0.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def _shares(ascending: Scores, edges: Float[np.ndarray, " edges"]) -> Float[np.ndarray, " bins"]:
    inner = np.searchsorted(ascending, edges[1:-1], side="left")
    counts: Int[np.ndarray, " bins"] = np.diff(np.r_[0, inner, len(ascending)])
    return counts / len(ascending)
