"""The metrics of OoD detection over very many scores, such as pixels: exact in little memory, or from a histogram.

The definitions are those of `mmood.metrics.functional`; higher scores mean more in-distribution. Both forms walk over
blocks of equal scores from the lowest up and count in integers:

* `exact_metrics` sorts scores and not indices, so that it takes 8 bytes a score beyond them;
* `Histogram` keeps counts only. Its bins are runs of neighbouring float32 numbers (the leading bits of the number), so
  that no range need be known beforehand, and the histograms of two ranks add up. `auroc_error` bounds what bins cost.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Self

import numpy as np
from jaxtyping import Bool, Float, Int64, UInt32, UInt64

from mmood.errors import MmoodError
from mmood.metrics.functional import OoDMetrics

BITS = 20
"""Leading bits of a float32 that make a bin: sign, exponent and 11 bits of the mantissa, a width of 0.05 %."""

_CHUNK = 2**16
_SIGN = np.uint32(2**31)

Blocks = Iterable[tuple[Int64[np.ndarray, " blocks"], Int64[np.ndarray, " blocks"]]]
"""Counts of (ID, OoD) scores in ascending blocks of scores that count as equal, in any number of pieces."""


def ordered_bits(scores: Float[np.ndarray, " n"]) -> UInt32[np.ndarray, " n"]:
    """Return whole numbers in the order of the scores, which are taken as float32; equal scores give equal numbers.

    Raises:
        MmoodError: a score is NaN, which has no place in the order.

    >>> bits = ordered_bits(np.array([-np.inf, -1.5, -0.0, 0.0, 1e-40, 3.0, np.inf]))
    >>> np.diff(bits.astype(np.int64)) > 0
    array([ True,  True, False,  True,  True,  True])
    """
    values = np.asarray(scores, dtype=np.float32) + np.float32(0.0)  # -0 becomes 0
    if np.isnan(values).any():
        raise MmoodError(f"{np.isnan(values).sum():,} of the {values.size:,} scores are NaN; they cannot be ranked.")
    bits = values.view(np.uint32)
    return np.where(bits & _SIGN, ~bits, bits | _SIGN)


def exact_metrics(scores: Float[np.ndarray, " n"], is_ood: Bool[np.ndarray, " n"]) -> OoDMetrics:
    """Return all metrics of one score, exactly; scores count as equal where they are equal as float32.

    Raises:
        MmoodError: a side is empty, or a score is NaN.
    """
    n_ood = int(np.count_nonzero(is_ood))
    n_id = is_ood.size - n_ood
    _check_sides(n_id, n_ood)
    marked = np.empty(scores.size, dtype=np.uint64)
    for start in range(0, scores.size, _CHUNK):
        piece = slice(start, start + _CHUNK)
        marked[piece] = ordered_bits(scores[piece])
        marked[piece] <<= np.uint64(1)
        marked[piece] |= is_ood[piece].astype(np.uint64)
    marked.sort()
    return metrics_of_blocks(_blocks_of_sorted(marked), n_id, n_ood)


@dataclass
class Histogram:
    """Counts of ID and OoD scores by their leading bits: as much memory for a thousand million scores as for one.

    Attributes:
        bits: leading bits of a float32 score that make its bin, in [10, 24].
    """

    bits: int = BITS
    counts: Int64[np.ndarray, "2 bins"] = field(init=False)

    def __post_init__(self) -> None:
        if not 10 <= self.bits <= 24:
            raise MmoodError(f"The bits of a histogram are {self.bits}; they must be in [10, 24].")
        self.counts = np.zeros((2, 2**self.bits), dtype=np.int64)

    def add(self, scores: Float[np.ndarray, " n"], is_ood: Bool[np.ndarray, " n"]) -> None:
        """Count scores.

        Raises:
            MmoodError: a score is NaN.
        """
        bins = ordered_bits(scores) >> np.uint32(32 - self.bits)
        for side, of_side in enumerate((~is_ood, is_ood)):
            self.counts[side] += np.bincount(bins[of_side], minlength=2**self.bits)

    def merge(self, other: Self) -> None:
        """Add the counts of another histogram, which must have as many bits."""
        self.counts += other.counts

    def metrics(self) -> OoDMetrics:
        """Return all metrics, with the scores of a bin taken as equal.

        Raises:
            MmoodError: a side is empty.
        """
        n_id, n_ood = (int(total) for total in self.counts.sum(axis=1))
        _check_sides(n_id, n_ood)
        blocks = self.counts[:, self.counts.any(axis=0)]
        return metrics_of_blocks([(blocks[0], blocks[1])], n_id, n_ood)

    def auroc_error(self) -> float:
        """Return by how much the AUROC can differ at most from that of the scores themselves.

        Pairs within a bin count one half in place of 0, 1/2 or 1.
        """
        n_id, n_ood = (int(total) for total in self.counts.sum(axis=1))
        together = math.fsum((self.counts[0] * self.counts[1].astype(np.float64)).tolist())
        return together / (2 * n_id * n_ood) if n_id and n_ood else 0.0


def metrics_of_blocks(blocks: Blocks, n_id: int, n_ood: int) -> OoDMetrics:
    """Return all metrics from counts of ID and OoD scores in ascending blocks, read once.

    Args:
        blocks: pieces of (ID counts, OoD counts), one entry a block, the lowest scores first.
        n_id: number of ID scores in all blocks, at least 1.
        n_ood: number of OoD scores, at least 1.
    """
    rejected_ood, accepted_id = _needed(n_ood), _needed(n_id)
    upto_id = upto_ood = twice_won = 0
    precision_id = precision_ood = 0.0
    id_rejected: int | None = None
    ood_accepted = 0
    for of_id, of_ood in blocks:
        id_upto, ood_upto = upto_id + np.cumsum(of_id), upto_ood + np.cumsum(of_ood)
        id_from, ood_from = n_id - (id_upto - of_id), n_ood - (ood_upto - of_ood)
        # An OoD score loses to the ID scores above its block, and shares those in its own.
        twice_won += int(of_ood @ (2 * (n_id - id_upto) + of_id))
        precision_ood += float(of_ood @ (ood_upto / (ood_upto + id_upto)))
        precision_id += float(of_id @ (id_from / (id_from + ood_from)))
        if id_rejected is None and ood_upto[-1] >= rejected_ood:
            id_rejected = int(id_upto[np.searchsorted(ood_upto, rejected_ood)])
        # The strictest threshold that accepts enough is the last block from which enough ID scores remain.
        if len(enough := np.flatnonzero(id_from >= accepted_id)):
            ood_accepted = int(ood_from[enough[-1]])
        upto_id, upto_ood = int(id_upto[-1]), int(ood_upto[-1])
    assert id_rejected is not None
    return OoDMetrics(
        n_id=n_id,
        n_ood=n_ood,
        auroc=twice_won / (2 * n_id * n_ood),
        aupr_id=precision_id / n_id,
        aupr_ood=precision_ood / n_ood,
        fpr95_id_pos=ood_accepted / n_ood,
        fpr95_ood_pos=id_rejected / n_id,
    )


def _blocks_of_sorted(
    marked: UInt64[np.ndarray, " n"],
) -> Iterator[tuple[Int64[np.ndarray, " blocks"], Int64[np.ndarray, " blocks"]]]:
    """Yield the blocks of sorted numbers whose last bit says OoD and whose other bits are the score, piece by piece."""
    start = 0
    while start < len(marked):
        stop = min(start + _CHUNK, len(marked))
        # A piece ends where a block ends.
        stop = int(np.searchsorted(marked, marked[stop - 1] | np.uint64(1), side="right"))
        piece = marked[start:stop]
        values = piece >> np.uint64(1)
        ends = np.append(np.flatnonzero(values[1:] != values[:-1]), len(piece) - 1)
        ood = np.diff(np.cumsum(piece & np.uint64(1), dtype=np.int64)[ends], prepend=0)
        yield np.diff(ends, prepend=-1) - ood, ood
        start = stop


def best_threshold(scores: Float[np.ndarray, " n"], is_ood: Bool[np.ndarray, " n"]) -> float:
    """Return the score t for which "s <= t is OoD" has the largest F1; the lowest of several.

    >>> best_threshold(np.array([0.0, 1.0, 2.0, 3.0]), np.array([True, True, False, False]))
    1.0
    """
    order = np.argsort(scores, kind="stable")
    values, ood = scores[order], np.cumsum(is_ood[order])
    ends = np.append(np.flatnonzero(values[1:] != values[:-1]), len(values) - 1)
    f1 = 2 * ood[ends] / (ends + 1 + ood[-1])
    return float(values[ends[int(f1.argmax())]])


def _needed(count: int) -> int:
    """Return how many of `count` are at least 95 %."""
    return math.ceil(Fraction(95, 100) * count)


def _check_sides(n_id: int, n_ood: int) -> None:
    for side, count in (("ID", n_id), ("OoD", n_ood)):
        if not count:
            raise MmoodError(f"There are no {side} scores; a metric needs at least one on each side.")
