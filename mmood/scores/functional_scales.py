"""Descriptors of an image at several scales, as pure functions."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, normalize

REGIONS = 6
"""Four quadrants, the whole and the centre."""


def region_means(rows: int, columns: int) -> Float[Tensor, "regions positions"]:
    """Return the matrix that takes the positions of a map, row by row, to the means of MODE's six regions.

    They are the 2 x 2 quadrants, the whole map, and its centre (arXiv 2308.10239). Where a side is odd, quadrants share
    the middle, as those of adaptive average pooling do. The centre leaves out a quarter of each side at either end,
    rounded down: 2 x 2 of 4 x 4, 5 x 5 of 7 x 7, 8 x 8 of 14 x 14; of 2 x 2 and 3 x 3 it is the whole.

    >>> region_means(2, 2)[-2:]
    tensor([[0.2500, 0.2500, 0.2500, 0.2500],
            [0.2500, 0.2500, 0.2500, 0.2500]])
    """
    maps = torch.eye(rows * columns).view(-1, rows, columns)
    quadrants = adaptive_avg_pool2d(maps, 2).flatten(1)
    centre = maps[:, rows // 4 : rows - rows // 4, columns // 4 : columns - columns // 4]
    return torch.cat([quadrants, maps.mean(dim=(1, 2))[:, None], centre.mean(dim=(1, 2))[:, None]], dim=1).T


def region_descriptors(
    positions: Float[Tensor, "batch positions dim"], means: Float[Tensor, "regions positions"]
) -> Float[Tensor, "batch regions dim"]:
    """Return the means over regions, of unit L2 norm; zeros stay zeros.

    MODE's code adds 1e-10 to the norm; this divides by at least 1e-10, which float32 cannot tell apart unless a norm is
    below 1e-3.

    >>> region_descriptors(torch.tensor([[[3.0, 0.0], [3.0, 8.0]]]), torch.tensor([[0.5, 0.5]]))
    tensor([[[0.6000, 0.8000]]])
    """
    return normalize(means @ positions, dim=-1, eps=1e-10)
