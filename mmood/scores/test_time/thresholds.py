"""Thresholds that split scores into two kinds (Otsu, 1979): exactly, or on a grid."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def otsu(scores: Float[Tensor, " scores"], otherwise: float = 0.5) -> float:
    """Return the threshold that splits scores into two kinds with the largest variance between them (Otsu, 1979).

    It lies in the middle between two neighbours among the sorted scores; no histogram is made. The variance between
    is w0 w1 (m1 - m0)^2 with shares w and means m.

    Args:
        scores: any number of them.
        otherwise: what to return where there are no two different scores.

    >>> otsu(torch.tensor([0.25, 0.0, 1.0, 0.75]))
    0.5
    """
    # In float64 on the CPU, which every device has: sums over thousands of scores, once a batch.
    ordered = scores.cpu().double().sort().values
    if len(ordered) < 2 or ordered[0] == ordered[-1]:
        return otherwise
    total, below = ordered.sum(), ordered.cumsum(0)[:-1]
    count = torch.arange(1, len(ordered), dtype=torch.float64)
    gap = (total - below) / (len(ordered) - count) - below / count
    between = count * (len(ordered) - count) * gap.square()
    # Equal scores cannot be told apart.
    best = int(between.masked_fill(ordered[1:] == ordered[:-1], -1.0).argmax())
    return float((ordered[best] + ordered[best + 1]) / 2)


def least_variance_threshold(scores: Float[Tensor, " scores"], steps: int = 100) -> float:
    """Return the threshold in [0, 1] that splits scores into the two groups of the least variance (Otsu's criterion).

    The thresholds 0, 1/steps, ..., 1 are tried; scores below one are its lower group. The criterion is the sum of both
    groups' variances, each times its share of the scores. Of thresholds that split alike, the middle is taken: of no
    scores, or of scores that are all in one place, that is the middle of a range and no judgement.

    Args:
        scores: in [0, 1].
        steps: spaces of the grid.

    >>> round(least_variance_threshold(torch.tensor([0.1, 0.1, 0.7, 0.9])), 3)
    0.4
    """
    # The CPU, as Apple's GPUs have no float64: with float32 sums equal splits would not tie.
    ordered = scores.detach().cpu().double().sort().values
    grid = torch.arange(steps + 1, dtype=torch.float64) / steps
    below = torch.searchsorted(ordered, grid)
    sums, squares = (torch.cat([torch.zeros(1), part.cumsum(0)]).double() for part in (ordered, ordered.square()))
    count = torch.stack([below, len(ordered) - below])
    total = torch.stack([sums[below], sums[-1] - sums[below]])
    squared = torch.stack([squares[below], squares[-1] - squares[below]])
    # n times the variance is sum x^2 - (sum x)^2 / n; an empty group has none.
    spread = (squared - total.square() / count.clamp_min(1)).sum(dim=0)
    best = grid[spread <= spread.min() + 1e-9 * (1 + float(squares[-1]))]
    return float((best[0] + best[-1]) / 2)
