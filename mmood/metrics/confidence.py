"""Whether a confidence means what it says: expected and adaptive calibration error, from counts in fine bins."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64

_FINE = 2**12


@dataclass
class Confidences:
    """Confidences and whether they were right, counted in 4,096 equal bins of confidence for each group.

    Attributes:
        groups: number of groups, such as classes.
    """

    groups: int = 1
    sums: Float64[np.ndarray, "3 groups bins"] = field(init=False)

    def __post_init__(self) -> None:
        self.sums = np.zeros((3, self.groups, _FINE))

    def add(
        self,
        confidence: Float[np.ndarray, " n"],
        correct: Bool[np.ndarray, " n"],
        group: Int64[np.ndarray, " n"] | None = None,
    ) -> None:
        """Count confidences in [0, 1] that were right or wrong."""
        bins = np.minimum((confidence * _FINE).astype(np.int64), _FINE - 1)
        cells = bins if group is None else group * _FINE + bins
        length = self.groups * _FINE
        for row, weights in enumerate((None, confidence, correct)):
            counts = np.bincount(cells, weights=weights, minlength=length)
            self.sums[row] += counts.reshape(self.groups, _FINE)

    def merge(self, other: Self) -> None:
        """Add the counts of another table, of as many groups."""
        self.sums += other.sums

    def ece(self, bins: int = 15) -> float:
        """Return the expected calibration error: the mean over `bins` equal bins of |accuracy - confidence|, by size.

        A bin takes whole fine bins, so its borders lie within 1/4096 of where they should.
        """
        edges = np.linspace(0, _FINE, bins + 1).round().astype(int)
        count, confidence, correct = np.add.reduceat(self.sums.sum(axis=1), edges[:-1], axis=1)
        return float(np.abs(correct - confidence).sum() / max(1.0, count.sum()))

    def ace(self, bins: int = 15) -> float:
        """Return the adaptive calibration error (arXiv 1904.01685): the same with bins of equally many confidences.

        The mean over the groups that have any, each with its own bins.
        """
        found = [_adaptive(of_group, bins) for of_group in np.moveaxis(self.sums, 1, 0) if of_group[0].sum()]
        return float(np.mean(found)) if found else 0.0


def _adaptive(sums: Float64[np.ndarray, "3 bins"], bins: int) -> float:
    upto = np.cumsum(sums[0])
    # A fine bin belongs to the coarse one in which its middle count lies.
    middle = upto - sums[0] / 2
    place = np.minimum((middle * bins / upto[-1]).astype(int), bins - 1)
    count, confidence, correct = (np.bincount(place, weights=row, minlength=bins) for row in sums)
    filled = count > 0
    return float(np.abs(correct[filled] - confidence[filled]).__truediv__(count[filled]).mean())
