"""Temperature scaling, and the L1 norm of the logits."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mmood.errors import MmoodError
from mmood.scores.base import AbstractScore, Embedded

Scores = Float[Tensor, " batch"]

SMALLEST, LARGEST = 1e-6, 1e6
"""Bounds of the inverse temperature, for logits of unit size."""


def l1_norm(logits: Float[Tensor, "batch classes"]) -> Scores:
    """Return sum_c |z_c - min z|, the L1 norm of the logits counted from their minimum, in [0, inf) (PLP's code).

    >>> l1_norm(torch.tensor([[-1.0, 0.0, 2.0]]))
    tensor([4.])
    """
    return (logits - logits.amin(dim=1, keepdim=True)).sum(dim=1)


def fit_temperature(logits: Float[Tensor, "images classes"], labels: Int[Tensor, " images"]) -> float:
    """Return the T that minimises the mean negative log-likelihood of softmax(logits / T) (arXiv 1706.04599).

    The images must be an ID validation split that the logits were not trained on. The loss is convex in 1/T; its only
    minimum is found by bisection of the derivative in log(1/T), in float64, to twelve digits.

    Args:
        logits: (N, C).
        labels: (N,) true classes.

    Raises:
        MmoodError: there is no minimum at a finite T: every image is classified right (T goes to 0), or the logits tell
            no more than chance (T goes to infinity).

    >>> logits = torch.tensor([[2.0, 0.0], [2.0, 0.0], [2.0, 0.0], [2.0, 0.0]])
    >>> round(fit_temperature(logits, torch.tensor([0, 0, 0, 1])), 6)  # 2 / log(3), so that p = 3/4
    1.820478
    """
    # Relative to the true class, the loss of an image is logsumexp(gaps / T).
    gaps = logits.double() - logits.double().gather(1, labels[:, None])
    size = float(gaps.abs().mean()) or 1.0

    def slope(inverse: Tensor) -> float:
        return float(((inverse * gaps).softmax(dim=1) * gaps).sum(dim=1).mean())

    low, high = (
        torch.tensor(bound / size, dtype=torch.float64, device=gaps.device).log() for bound in (SMALLEST, LARGEST)
    )
    if not slope(low.exp()) < 0:
        raise MmoodError("The logits predict the labels no better than chance, so no finite temperature is optimal.")
    if not slope(high.exp()) > 0:
        raise MmoodError(
            "The logits predict every label correctly, so no temperature above 0 is optimal; use more images."
        )
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle.exp()) < 0 else (low, middle)
    return float((-middle).exp())


class L1Norm(AbstractScore):
    """L1 norm of the logits counted from their minimum, sum_c (z_c - min z), in [0, inf) (PLP, arXiv 2303.05828)."""

    least_classes = 2

    def forward(self, embedded: Embedded) -> Scores:
        """Return the L1 norm."""
        return l1_norm(embedded.logits)
