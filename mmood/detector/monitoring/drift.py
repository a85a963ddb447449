"""Has the world changed since a detector was calibrated? Tests of a window of images against the calibration images.

Every p-value takes both samples as samples: where the N images of a window and the n calibration images are drawn
alike and independently, it is at most q with a probability of at most q, over the draw of both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64
from scipy import stats
from scipy.spatial.distance import cdist

Values = Float[np.ndarray, " images"]
Embeddings = Float[np.ndarray, "images dim"]

_EXACT = 2 * 10**8  # of n N: where the exact distribution of the Kolmogorov-Smirnov statistic takes a second
_AT_ONCE = 64
_BINS = 10


@dataclass(frozen=True)
class ShareBelow:
    """How many images of a window lie below the threshold.

    Attributes:
        count: of images below it.
        share: of the window.
        low, high: the exact (Clopper-Pearson) interval of the share.
        expected: m / (n + 1) for a threshold that is the m-th smallest of n calibration scores; ties only lower it.
        p_value: of at least `count` images, by the beta-binomial distribution of the number of them.
    """

    count: int
    share: float
    low: float
    high: float
    expected: float
    p_value: float


def share_below(count: int, images: int, calibration_images: int, rank: int, level: float = 0.95) -> ShareBelow:
    """Return the share below the threshold, its interval, and how likely as large a share is without a change.

    The share of ID images below the m-th smallest of n scores is itself random, Beta(m, n + 1 - m), so that the number
    of N images is beta-binomial. A binomial test at the rate m / (n + 1) would take the calibration for infinite, and
    give too many false alarms. The test is one-sided: the other side is that of `score_shift`. Ties lower the count.

    Args:
        count: images below the threshold.
        images: N.
        calibration_images: n.
        rank: m.
        level: of the interval.
    """
    interval = stats.binomtest(count, images).proportion_ci(level, method="exact")
    # Summed from the tail: 1 - cdf would lose the digits of small p-values.
    tail = stats.betabinom.pmf(np.arange(count, images + 1), images, rank, calibration_images + 1 - rank).sum()
    return ShareBelow(
        count=count,
        share=count / images,
        low=float(interval.low),
        high=float(interval.high),
        expected=rank / (calibration_images + 1),
        p_value=min(1.0, float(tail)),
    )


@dataclass(frozen=True)
class ScoreShift:
    """How the scores of a window differ from the calibration scores.

    Attributes:
        ks: the Kolmogorov-Smirnov statistic, the largest gap between both distribution functions.
        p_value: of the two-sample Kolmogorov-Smirnov test.
        psi: population stability index over the deciles of the calibration scores.
        psi_expected: its mean without any change: it is larger for small windows.
        quantiles: 5 %, 50 % and 95 % of the window's scores.
    """

    ks: float
    p_value: float
    psi: float
    psi_expected: float
    quantiles: tuple[float, float, float]


def score_shift(scores: Values, calibration: Values) -> ScoreShift:
    """Return how the scores of a window differ from the calibration scores (two-sided)."""
    method = "exact" if len(scores) * len(calibration) <= _EXACT else "asymp"
    test = stats.ks_2samp(scores, calibration, method=method)
    psi, expected = population_stability(scores, calibration)
    low, middle, high = (float(value) for value in np.quantile(scores, (0.05, 0.5, 0.95)))
    return ScoreShift(float(test.statistic), float(test.pvalue), psi, expected, (low, middle, high))


def population_stability(scores: Values, calibration: Values, bins: int = _BINS) -> tuple[float, float]:
    """Return the population stability index, sum (p - q) ln(p / q), and its mean without any change.

    p and q are the shares of window and calibration between the quantiles of the calibration scores, with half an image
    added to each bin, so that an empty one counts and the index is finite. Without any change it is distributed as
    (1 / N + 1 / n) times chi-squared with one degree of freedom less than there are bins (Yurdakul, 2018).
    """
    edges = np.unique(np.quantile(calibration, np.arange(1, bins) / bins, method="higher"))
    p, q = (_shares(values, edges) for values in (scores, calibration))
    expected = len(edges) * (1 / len(scores) + 1 / len(calibration))
    return float(((p - q) * np.log(p / q)).sum()), expected


def _shares(values: Values, edges: Values) -> Float64[np.ndarray, " bins"]:
    counts = np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1) + 0.5
    shares: Float64[np.ndarray, " bins"] = counts / counts.sum()
    return shares


def mean_cosine(
    mean: Float[np.ndarray, " dim"], calibration_mean: Float[np.ndarray, " dim"], images: int
) -> tuple[float, float]:
    """Return the cosine of two means of unit-norm embeddings, and about what it is without any change.

    A mean of N of them has the squared length |mu|^2 + (1 - |mu|^2) / N in expectation, and its part along mu has the
    length |mu|; so the cosine is about |mu| over the root of that.

    Args:
        mean: of the window.
        calibration_mean: mu.
        images: N.
    """
    a, b = mean.astype(np.float64), calibration_mean.astype(np.float64)
    square = min(1.0, float(b @ b))
    cosine = float(a @ b / max(np.linalg.norm(a) * np.linalg.norm(b), np.finfo(np.float64).tiny))
    return cosine, float(np.sqrt(square / (square + (1 - square) / images))) if square else 0.0


def energy_test(
    window: Embeddings, calibration: Embeddings, permutations: int, generator: np.random.Generator
) -> tuple[float, float]:
    """Return the energy distance of two samples, 2 E|X - Y| - E|X - X'| - E|Y - Y'|, and its permutation p-value.

    Szekely & Rizzo (2013). The p-value is (1 + #{permuted >= found}) / (permutations + 1), which holds for samples of
    any size. Takes time and memory in the square of the images of both together.

    Args:
        window: (N, D).
        calibration: (n, D).
        permutations: of which image belongs to which sample.
        generator: draws the permutations.
    """
    pooled = np.concatenate([window, calibration]).astype(np.float64)
    distances = cdist(pooled, pooled)
    members = np.zeros((permutations + 1, len(pooled)))
    members[:, : len(window)] = 1
    members[1:] = generator.permuted(members[1:], axis=1)
    found = np.concatenate(
        [_energies(distances, members[start : start + _AT_ONCE]) for start in range(0, len(members), _AT_ONCE)]
    )
    # A permutation that gives the same samples again is no smaller by rounding.
    as_large = int((found[1:] >= found[0] - 1e-12 * distances.max()).sum())
    return max(0.0, float(found[0])), (1 + as_large) / (permutations + 1)


def _energies(
    distances: Float64[np.ndarray, "pooled pooled"], members: Float64[np.ndarray, "draws pooled"]
) -> Float64[np.ndarray, " draws"]:
    """Return the energy distance of each row's members from all others."""
    inside = members.sum(axis=1)
    outside = len(distances) - inside
    to_members = members @ distances
    within = (to_members * members).sum(axis=1)
    across = to_members.sum(axis=1) - within
    others = distances.sum() - within - 2 * across
    energies: Float64[np.ndarray, " draws"] = 2 * across / (inside * outside) - within / inside**2 - others / outside**2
    return energies


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Return the p-values of several tests adjusted by Holm (1979): one is at most q with a probability of at most q.

    >>> holm({"a": 0.01, "b": 0.04, "c": 0.03})
    {'a': 0.03, 'c': 0.06, 'b': 0.06}
    """
    adjusted: dict[str, float] = {}
    largest = 0.0
    for place, (name, value) in enumerate(sorted(p_values.items(), key=lambda entry: entry[1])):
        largest = max(largest, min(1.0, (len(p_values) - place) * value))
        adjusted[name] = largest
    return adjusted
