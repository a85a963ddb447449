"""ANTS as pure functions: the threshold of what is mined, the weight of two scores, and their mixture."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

Scores = Float[Tensor, " batch"]


def mining_threshold(
    scores: Float[Tensor, " scores"], bins: int = 10, quantile: float = 0.5, otherwise: float = 0.8
) -> float:
    """Return the threshold below which images are taken for OoD (ANTS, arXiv 2509.03951).

    In a histogram of the scores over [0, 1], let u be the edge at which the counts rise most (the first of several);
    the threshold is the quantile of the scores below u.

    Args:
        scores: all S so far.
        bins: of the histogram, at least two.
        quantile: of the scores below u.
        otherwise: what to return where no score is below u.

    >>> round(mining_threshold(torch.tensor([0.01, 0.03, 0.05, 0.95, 0.96, 0.97, 0.98])), 6)
    0.03
    """
    ordered = scores.cpu().double().clamp(0, 1)
    counts = torch.histc(ordered, bins, 0, 1)
    edge = (int(counts.diff().argmax()) + 1) / bins
    below = ordered[ordered < edge]
    return float(below.quantile(quantile)) if len(below) else otherwise


def adaptive_weight(far: float, near: float) -> float:
    """Return lambda = (1 - m_f) / ((1 - m_f) + (1 - m_n)) of the mean scores against the far and the near negatives.

    The lower mean score, whose negatives fit the mined images better, gets the larger weight; both 1, it is 1/2.

    >>> adaptive_weight(0.25, 0.75)
    0.75
    """
    total = (1 - far) + (1 - near)
    return (1 - far) / total if total > 0 else 0.5


def mixed_log_odds(far: Scores, near: Scores, weight: float) -> Scores:
    """Return log S - log(1 - S) of S = weight S_far + (1 - weight) S_near, from the log-odds of both.

    >>> mixed_log_odds(torch.tensor([0.0]), torch.tensor([0.0]), 0.3)
    tensor([0.])
    """
    if weight in (0, 1):
        return far if weight == 1 else near
    parts = torch.stack([far, near])
    share = parts.new_tensor([math.log(weight), math.log1p(-weight)]).unsqueeze(-1)
    inside = torch.nn.functional.logsigmoid(parts) + share
    outside = torch.nn.functional.logsigmoid(-parts) + share
    return inside.logsumexp(0) - outside.logsumexp(0)
