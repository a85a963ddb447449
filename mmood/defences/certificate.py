"""Median smoothing: bounds of a smoothed score within an L2 ball (Chiang et al., NeurIPS 2020, arXiv 2007.03989).

The smoothed score of an image x is the median of s(x + σ z), z standard normal. For every perturbation d of L2 norm at
most r, the median at x + d lies between the percentiles Φ(-r/σ) and Φ(r/σ) of s(x + σ z) at x, whatever s is. The
percentiles are not known, but order statistics of n noisy copies bound them: with probability 1 - α at least, the q-th
smallest of the copies is no larger than the lower percentile, if a binomial variable of n trials and success Φ(-r/σ)
is below q with probability α at most.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor


class Order(NamedTuple):
    """Which of n noisy copies, counted from the smallest score, are the bounds.

    Attributes:
        low: from 1; 0 where no copy is a lower bound.
        high: up to n; n + 1 where no copy is an upper bound.
    """

    low: int
    high: int


def certified_order(copies: int, noise: float, radius: float, alpha: float) -> Order:
    """Return the order statistics that bound the median within a radius, each with probability 1 - alpha at least.

    The binomial probabilities are exact, so the bounds hold for every n, not only for many copies.

    Args:
        copies: n.
        noise: standard deviation σ of the noise.
        radius: L2 norm of the perturbations, in the units of the noise.
        alpha: probability that a bound may fail; of each of the two by itself.

    >>> certified_order(1000, 0.25, 0.0, 0.001)
    Order(low=451, high=550)
    """
    from scipy.stats import binom  # takes a second: not in a run without smoothing

    share = _share(noise, radius)
    # Bin(n, share) < q with probability alpha at most: the quantile function gives the largest such q.
    low = int(binom.ppf(alpha, copies, share))
    while low > 0 and binom.cdf(low - 1, copies, share) > alpha:
        low -= 1
    while low < copies and binom.cdf(low, copies, share) <= alpha:
        low += 1
    return Order(low, copies + 1 - low)


def _share(noise: float, radius: float) -> float:
    """Return Φ(-r/σ), with all digits also where it is tiny."""
    return 0.5 * math.erfc(radius / noise / math.sqrt(2))


def fewest_copies(noise: float, radius: float, alpha: float) -> int:
    """Return the smallest number of copies with which a bound within this radius is finite.

    >>> fewest_copies(0.25, 0.5, 0.001)
    301
    """
    share = _share(noise, radius)
    return max(1, math.ceil(math.log(alpha) / math.log1p(-share))) if share > 0 else 2**62


def ordered_bounds(
    ordered: Float[Tensor, "copies images scores"], order: Order
) -> tuple[Float[Tensor, "images scores"], Float[Tensor, "images scores"]]:
    """Return the lower and the upper bound of scores.

    Args:
        ordered: scores of the noisy copies, ascending along the first axis.
        order: see `certified_order`; a bound that no copy is, is infinite.
    """
    nothing = torch.full_like(ordered[0], torch.inf)
    low = ordered[order.low - 1] if order.low > 0 else -nothing
    high = ordered[order.high - 1] if order.high <= len(ordered) else nothing
    return low, high
