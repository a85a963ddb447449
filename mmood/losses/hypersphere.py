"""The von Mises-Fisher distribution `p(u) = exp(κ t·u) / Z(κ)` on the unit sphere of R^d, in float64."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor


def log_partition(kappa: Float[Tensor, "*any"], dim: int) -> Float[Tensor, "*any"]:
    """Return `log Z(κ) = log ∫ exp(κ t·u) du` over the unit sphere of R^dim; differentiable in κ.

    `Z(κ) = (2π)^(d/2) I_ν(κ) / κ^ν` with ν = d/2 - 1 and the modified Bessel function I: the same for every unit vector
    t (Mardia and Jupp, Directional Statistics). Summed from the power series of I, whose terms are all positive, in log
    space: nothing cancels, overflows or underflows. Costs O(κ) terms.

    >>> round(log_partition(torch.tensor(0.0), 3).item(), 4) == round(math.log(4 * math.pi), 4)
    True

    Args:
        kappa: concentration, at least 0, of any shape.
        dim: d, at least 1.

    Returns:
        float64 of the shape of `kappa`; at κ = 0 the log of the sphere's area.
    """
    kappa = kappa.double()
    order = dim / 2 - 1
    m = torch.arange(_terms(kappa, order), dtype=torch.float64, device=kappa.device)
    # xlogy, so that the first term is finite at κ = 0.
    terms = torch.special.xlogy(2 * m, kappa[..., None] / 2) - torch.lgamma(m + 1) - torch.lgamma(m + order + 1)
    area = dim / 2 * math.log(2 * math.pi) - order * math.log(2)
    return area + torch.logsumexp(terms, dim=-1)


def mean_cosine(kappa: Float[Tensor, "*any"], dim: int) -> Float[Tensor, "*any"]:
    """Return `A_d(κ) = d log Z / dκ = I_{d/2}(κ) / I_{d/2-1}(κ)`, the expected cosine of u with t, in [0, 1).

    Evaluated backwards from Gauss's continued fraction `A = κ / (d + κ² / (d + 2 + κ² / (d + 4 + ...)))`, whose terms
    are positive. It is the gradient that the alignment regulariser leaves out when the logit scale is learnt. Arguments
    are those of `log_partition`.

    >>> round(mean_cosine(torch.tensor(100.0), 512).item(), 5)
    0.1884
    """
    kappa = kappa.double()
    ratio = torch.zeros_like(kappa)
    for step in range(_terms(kappa, dim / 2 - 1), -1, -1):
        ratio = kappa / (dim + 2 * step + kappa * ratio)
    return ratio


def _terms(kappa: Tensor, order: float) -> int:
    """Return how many terms of the series count in float64: past the largest, they fall like a Gaussian's tail."""
    largest = float(kappa.detach().max())
    peak = (math.hypot(order, largest) - order) / 2
    return int(peak + 12 * math.sqrt(peak + 1)) + 40
