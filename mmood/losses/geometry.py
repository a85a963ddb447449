"""Geometry of image and text embeddings on the unit sphere: alignment, uniformity, modality gap."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from mmood.errors import MmoodError


def alignment(left: Float[Tensor, "pairs dim"], right: Float[Tensor, "pairs dim"]) -> Float[Tensor, ""]:
    """Return the mean squared distance of paired unit-norm embeddings, in [0, 4]; smaller is better aligned.

    `mean_i |u_i - w_i|^2` (Wang and Isola, arXiv 2005.10242, exponent 2).

    >>> alignment(torch.eye(2), torch.eye(2)).item()
    0.0
    """
    return (left - right).square().sum(dim=-1).mean()


def uniformity(points: Float[Tensor, "points dim"], sharpness: float = 2.0, rows: int = 1024) -> Float[Tensor, ""]:
    """Return the log of the mean Gaussian kernel over pairs of unit-norm embeddings; smaller is more uniform.

    `log mean_{i<j} exp(-t |u_i - u_j|^2)` (Wang and Isola, arXiv 2005.10242): 0 if all points coincide, at least -4t.

    >>> uniformity(torch.tensor([[1.0, 0.0], [-1.0, 0.0]])).item()
    -8.0

    Args:
        points: (N, D) unit-norm embeddings, N at least 2.
        sharpness: t.
        rows: rows of the (N, N) kernel held at a time.

    Raises:
        MmoodError: there are fewer than two points.
    """
    if len(points) < 2:
        raise MmoodError(f"Uniformity is a mean over pairs of embeddings, but there are {len(points)} embeddings.")
    parts = []
    for start in range(0, len(points), rows):
        squared = (2 - 2 * points[start : start + rows] @ points.T).clamp_min(0)
        # A point is no pair with itself.
        squared.diagonal(start).fill_(torch.inf)
        parts.append((-sharpness * squared).logsumexp(dim=(0, 1)))
    return torch.stack(parts).logsumexp(dim=0) - math.log(len(points) * (len(points) - 1))


def modality_gap(image: Float[Tensor, "images dim"], text: Float[Tensor, "texts dim"]) -> Float[Tensor, ""]:
    """Return the distance between the mean image and the mean text embedding, in [0, 2] (arXiv 2203.02053).

    >>> modality_gap(torch.tensor([[1.0, 0.0]]), torch.tensor([[-1.0, 0.0]])).item()
    2.0
    """
    return torch.dist(image.mean(dim=0), text.mean(dim=0))
