"""How sure a metric is: stratified bootstrap over the images, and DeLong's test of two AUROCs.

A resample draws as many ID images as there are, with replacement, and the OoD images of each set likewise. Nothing is
sorted again: each score is ranked once, a resample is how often each image was drawn, and running sums of these
counts in the order of the scores give AUROC and both FPR95 exactly, ties included.

All scores of one call see the same drawn images. So differences of their replicates are paired, be it between scores
or between runs, and a mean over sets keeps that all sets share the ID images.
"""

from __future__ import annotations

import math
import os
import zlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float64, Int, Num

from mmood.errors import MmoodError

Scores = Num[np.ndarray, " n"]
_BLOCK = 2**21  # drawn images at a time: the running sums of a block stay near the processor
_RECALL = Fraction(95, 100)


class Interval(NamedTuple):
    """An interval of confidence."""

    low: float
    high: float


@dataclass(frozen=True)
class Replicates:
    """The metrics of each resample, each (R,) float64; they can be subtracted and averaged, since they are paired."""

    auroc: Float64[np.ndarray, " resamples"]
    fpr95_id_pos: Float64[np.ndarray, " resamples"]
    fpr95_ood_pos: Float64[np.ndarray, " resamples"]

    def __sub__(self, other: Replicates) -> Replicates:
        return Replicates(
            self.auroc - other.auroc,
            self.fpr95_id_pos - other.fpr95_id_pos,
            self.fpr95_ood_pos - other.fpr95_ood_pos,
        )


def mean_replicates(parts: Sequence[Replicates]) -> Replicates:
    """Return the unweighted mean, resample by resample: of sets, or of runs with different seeds."""
    return Replicates(
        np.mean([part.auroc for part in parts], axis=0),
        np.mean([part.fpr95_id_pos for part in parts], axis=0),
        np.mean([part.fpr95_ood_pos for part in parts], axis=0),
    )


def percentile_interval(values: Float64[np.ndarray, " resamples"], confidence: float = 0.95) -> Interval:
    """Return the percentile interval of replicates.

    >>> [round(end, 6) for end in percentile_interval(np.arange(1001.0))]
    [25.0, 975.0]
    """
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(low), float(high))


def bootstrap(
    id_scores: Mapping[str, Scores],
    ood_scores: Mapping[str, Mapping[str, Scores]],
    resamples: int = 1000,
    seed: int = 0,
) -> dict[tuple[str, str], Replicates]:
    """Return the replicates of each (score, set): AUROC and both FPR95, as `ood_metrics` defines them.

    Args:
        id_scores: score -> (N,) values of the ID images; every score on the same images in the same order.
        ood_scores: set -> score -> (M,) values; within a set likewise. A set may lack some of the scores.
        resamples: R, number of resamples.
        seed: of the draws. They depend on it, the name of the set and its size, and on nothing else.

    Raises:
        MmoodError: there are no images, values are NaN, or the scores of a set have different lengths.

    >>> draws = bootstrap({"s": np.array([2.0, 3.0])}, {"far": {"s": np.array([0.0, 1.0])}}, resamples=3)
    >>> draws["s", "far"].auroc
    array([1., 1., 1.])
    """
    if resamples < 1:
        raise MmoodError(f"The number of resamples is {resamples}; it must be at least 1.")
    n_id = _length("ID", id_scores)
    sizes = {name: _length(name, scores) for name, scores in ood_scores.items()}
    id_order = {score: _order(values) for score, values in id_scores.items()}
    ranked = {
        (score, name): _ranked(id_scores[score][id_order[score][1:]], values)
        for name, scores in ood_scores.items()
        for score, values in scores.items()
    }
    rows = max(1, _BLOCK // (n_id + sum(sizes.values())))
    starts = range(0, resamples, rows)

    def block(start: int) -> dict[tuple[str, str], Float64[np.ndarray, "metrics rows"]]:
        count = min(rows, resamples - start)
        id_drawn = _draw(n_id, count, [seed, start])
        drawn = {name: _draw(size, count, [seed, start, zlib.crc32(name.encode())]) for name, size in sizes.items()}
        found = {}
        for score, order in id_order.items():
            id_side = _side(id_drawn, order, n_id - math.ceil(_RECALL * n_id) + 1)
            for name in sizes:
                if (score, name) in ranked:
                    found[score, name] = _metrics(id_side, drawn[name], ranked[score, name])
        return found

    threads = torch.get_num_threads()
    # The blocks are the parallel part: numpy and torch leave the interpreter's lock, and torch stays in its thread.
    with ThreadPoolExecutor(os.cpu_count(), initializer=torch.set_num_threads, initargs=(1,)) as pool:
        blocks = list(pool.map(block, starts))
    torch.set_num_threads(threads)
    return {pair: Replicates(*np.concatenate([found[pair] for found in blocks], axis=1)) for pair in ranked}


class Placements(NamedTuple):
    """Where each score stands on the other side: the share it outranks, or is outranked by; ties count half."""

    id: Float64[np.ndarray, " id"]
    ood: Float64[np.ndarray, " ood"]


class Difference(NamedTuple):
    """Of two AUROCs on the same images: the difference, its standard error, and the two-sided p of no difference."""

    auroc: float
    standard_error: float
    p: float


def placements(id_scores: Scores, ood_scores: Scores) -> Placements:
    """Return the placements of a score; the mean of either side is its AUROC.

    >>> placements(np.array([3.0, 2.0]), np.array([1.0, 2.0])).id
    array([1.  , 0.75])
    """
    return Placements(_outranked(id_scores, ood_scores), 1 - _outranked(ood_scores, id_scores))


def delong(one: Placements, other: Placements) -> Difference:
    """Return the difference of two AUROCs measured on the same images, after DeLong et al. (Biometrics 1988).

    The placements are exact midranks, so ties are accounted for. Two scores that rank alike have p = 1.
    """
    id_change, ood_change = one.id - other.id, one.ood - other.ood
    difference = float(np.mean(id_change))
    variance = sum(float(np.var(change, ddof=1)) / len(change) for change in (id_change, ood_change) if len(change) > 1)
    error = math.sqrt(variance)
    if error == 0:
        return Difference(difference, 0.0, 1.0 if difference == 0 else 0.0)
    return Difference(difference, error, math.erfc(abs(difference) / error / math.sqrt(2)))


def _outranked(scores: Scores, others: Scores) -> Float64[np.ndarray, " n"]:
    others = np.sort(others)
    order = np.argsort(scores)
    ascending = scores[order]  # so that each search starts where the last one ended, in the cache
    twice = np.searchsorted(others, ascending, side="left") + np.searchsorted(others, ascending, side="right")
    share = np.empty(len(scores))
    share[order] = twice / (2 * len(others))
    return share


class _Ranked(NamedTuple):
    """The OoD scores of a set among the ID scores.

    Attributes:
        order: (M + 1,) place of the zeros in a draw, then the OoD images from the lowest score.
        below: (M,) number of ID scores strictly below each, in that order.
        upto: (M,) number of ID scores at or below each.
        tied: the positions at which the two differ.
        ood_below: (N,) number of OoD scores strictly below each ID score, from the lowest.
    """

    order: Int[np.ndarray, " m"]
    below: Int[np.ndarray, " ood"]
    upto: Int[np.ndarray, " ood"]
    tied: Int[np.ndarray, " ties"]
    ood_below: Int[np.ndarray, " id"]


class _Side(NamedTuple):
    """The drawn images of one side in the order of a score.

    Attributes:
        drawn: how often each was drawn, from the lowest score.
        upto: for k = 0 to n, how many drawn ones are among the k lowest.
        threshold: position of the drawn one at which `upto` reaches the wanted number.
    """

    drawn: Int[np.ndarray, "rows n"]
    upto: Int[np.ndarray, "rows m"]
    threshold: Int[np.ndarray, " rows"]


def _order(scores: Scores) -> Int[np.ndarray, " m"]:
    """Return the place of the zeros in a draw, where a running sum starts, then the images in ascending order."""
    return np.append(len(scores), np.argsort(scores, kind="stable"))


def _ranked(id_sorted: Scores, ood: Scores) -> _Ranked:
    order = _order(ood)
    ood_sorted = ood[order[1:]]
    below = np.searchsorted(id_sorted, ood_sorted, side="left")
    upto = np.searchsorted(id_sorted, ood_sorted, side="right")
    ood_below = np.searchsorted(ood_sorted, id_sorted, side="left")
    return _Ranked(order, below, upto, np.flatnonzero(below != upto), ood_below)


def _draw(size: int, count: int, seed: list[int]) -> Int[np.ndarray, "rows m"]:
    """Return how often each of `size` images came in each of `count` resamples, and a column of zeros at the end."""
    random = np.random.default_rng(seed)
    drawn = random.integers(0, size, (count, size), dtype=np.int32)
    drawn += np.arange(count, dtype=np.int32)[:, None] * (size + 1)  # a row's images, told from those of other rows
    # A byte an image: that one image comes 256 times has a probability below 1e-500.
    return np.bincount(drawn.ravel(), minlength=count * (size + 1)).astype(np.uint8).reshape(count, size + 1)


def _side(drawn: Int[np.ndarray, "rows m"], order: Int[np.ndarray, " m"], wanted: int) -> _Side:
    drawn = np.take(drawn, order, axis=1)
    # torch sums five times as fast as numpy here.
    upto: Int[np.ndarray, "rows m"] = torch.cumsum(torch.from_numpy(drawn), 1, dtype=torch.int32).numpy()
    target = np.int32(wanted)  # another type would make a copy of the whole row
    return _Side(drawn[:, 1:], upto, np.array([np.searchsorted(row, target) - 1 for row in upto]))


def _metrics(
    id_side: _Side, ood_drawn: Int[np.ndarray, "rows m"], ranked: _Ranked
) -> Float64[np.ndarray, "metrics rows"]:
    """Return AUROC, FPR95 ID-pos and FPR95 OoD-pos of each row, all from whole numbers divided once."""
    n_id, n_ood = id_side.drawn.shape[1], ood_drawn.shape[1] - 1
    ood_side = _side(ood_drawn, ranked.order, math.ceil(_RECALL * n_ood))
    # Twice the ID images that each OoD image is not outranked by, the tied ones once.
    lost = 2 * _dot(np.take(id_side.upto, ranked.below, axis=1), ood_side.drawn)
    if len(tied := ranked.tied):
        ties = np.take(id_side.upto, ranked.upto[tied], axis=1) - np.take(id_side.upto, ranked.below[tied], axis=1)
        lost += _dot(ties, np.take(ood_side.drawn, tied, axis=1))
    rows = np.arange(len(ood_drawn))
    ood_rejected = ood_side.upto[rows, ranked.ood_below[id_side.threshold]]
    id_rejected = id_side.upto[rows, ranked.upto[ood_side.threshold]]
    return np.stack([1 - lost / (2 * n_id * n_ood), (n_ood - ood_rejected) / n_ood, id_rejected / n_id])


def _dot(left: Int[np.ndarray, "rows n"], right: Int[np.ndarray, "rows n"]) -> Int[np.ndarray, " rows"]:
    # In int64: a sum of products outgrows the 32 bits of its terms.
    product: Int[np.ndarray, " rows"] = np.einsum("rn,rn->r", left, right, dtype=np.int64, casting="unsafe")
    return product


def _length(side: str, scores: Mapping[str, Scores]) -> int:
    lengths = {len(values) for values in scores.values()}
    if len(lengths) > 1:
        raise MmoodError(f"The scores of {side} have {sorted(lengths)} values; all must be of the same images.")
    if not lengths or 0 in lengths:
        raise MmoodError(f"There are no {side} scores; a bootstrap needs at least one on each side.")
    for name, values in scores.items():
        if np.isnan(values).any():
            raise MmoodError(f"The score '{name}' of {side} holds NaN, which cannot be ranked.")
    return lengths.pop()
