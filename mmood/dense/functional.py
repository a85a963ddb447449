"""Dense scores as pure functions: from the logits of every pixel to a score of every pixel, and of the image.

Higher scores mean more in-distribution, as everywhere.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

Logits = Float[Tensor, "batch classes height width"]
Map = Float[Tensor, "batch height width"]
Pooling = Literal["max", "top_share", "quantile"]


def max_softmax(logits: Logits, temperature: float = 1.0) -> Map:
    """Return the largest softmax probability as log-odds, so that it does not saturate (arXiv 1610.02136)."""
    scaled = logits / temperature
    top, index = scaled.max(dim=1, keepdim=True)
    others = scaled.scatter(1, index, -torch.inf).logsumexp(dim=1)
    return top[:, 0] - others


def max_logit(logits: Logits) -> Map:
    """Return the largest logit (arXiv 1911.11132)."""
    return logits.amax(dim=1)


def energy(logits: Logits, temperature: float = 1.0) -> Map:
    """Return T logsumexp(logits / T) (arXiv 2010.03759)."""
    return temperature * (logits / temperature).logsumexp(dim=1)


def entropy(logits: Logits) -> Map:
    """Return 1 - H / log C of the softmax, in [0, 1]: 0 where all classes are equally likely."""
    log_probability = logits.log_softmax(dim=1)
    plogp = (log_probability.exp() * log_probability).nan_to_num(0.0).sum(dim=1)
    return 1 + plogp / math.log(logits.shape[1])


def standardised_max_logit(logits: Logits, mean: Float[Tensor, " classes"], std: Float[Tensor, " classes"]) -> Map:
    """Return the largest logit, standardised by mean and deviation of its class in training (arXiv 2107.11264)."""
    top, predicted = logits.max(dim=1)
    return (top - mean[predicted]) / std[predicted]


def pooled(scores: Map, pooling: Pooling, share: float = 0.01) -> Float[Tensor, " batch"]:
    """Return a score of each image from those of its pixels: of the pixels that look most like OoD.

    Args:
        scores: higher = more in-distribution.
        pooling: `max` of the uncertainty, which is the lowest score; `top_share`, the mean over the `share` of the
            pixels with the lowest scores; `quantile`, the score below which that share lies.
        share: of the pixels, in (0, 1].

    >>> scores = torch.arange(10.0).view(1, 2, 5)
    >>> [pooled(scores, kind, 0.3).item() for kind in ("max", "top_share", "quantile")]
    [0.0, 1.0, 2.0]
    """
    flat = scores.flatten(1)
    if pooling == "max":
        return flat.amin(dim=1)
    count = max(1, math.ceil(share * flat.shape[1]))
    lowest = flat.topk(count, dim=1, largest=False).values
    return lowest.mean(dim=1) if pooling == "top_share" else lowest.amax(dim=1)


class Moments:
    """Count, sum and sum of squares of a value for each class, over any number of batches, in float64.

    Args:
        classes: number of classes.
    """

    def __init__(self, classes: int) -> None:
        self.sums = torch.zeros(3, classes, dtype=torch.float64)

    def add(self, values: Float[Tensor, " n"], classes: Int[Tensor, " n"]) -> None:
        """Count values of these classes."""
        values = values.double().cpu()
        for row, term in enumerate((torch.ones_like(values), values, values**2)):
            self.sums[row] += torch.zeros(self.sums.shape[1], dtype=torch.float64).scatter_add(0, classes.cpu(), term)

    def mean_and_std(self) -> tuple[Float[Tensor, " classes"], Float[Tensor, " classes"]]:
        """Return mean and standard deviation of each class in float32; a class without values has those of all."""
        count, total, squares = self.sums
        seen = count > 0
        means = torch.where(seen, total / count.clamp(min=1), total.sum() / count.sum().clamp(min=1))
        spread = torch.where(seen, squares / count.clamp(min=1), squares.sum() / count.sum().clamp(min=1)) - means**2
        return means.float(), spread.clamp(min=1e-12).sqrt().float()
