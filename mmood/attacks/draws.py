"""Random numbers of an attack: of each image by its key, so that they depend on no batch, rank or order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from mmood.attacks.budget import Norm
from mmood.shards.hashes import digest

_NOISE, _TARGET = 1, 2


def noise(
    keys: Iterable[int], seed: int, restart: int, size: Sequence[int], norm: Norm
) -> Float[Tensor, "batch 3 height width"]:
    """Return the noise that an attack begins with, on the CPU: uniform in [-1, 1] for `linf`, Gaussian for `l2`.

    Args:
        keys: of the images.
        seed: of the attack.
        restart: from 0.
        size: of an image.
        norm: of the budget.
    """
    return torch.stack([_noise(digest(_NOISE, seed, restart, key), size, norm) for key in keys])


def targets(keys: Iterable[int], seed: int, count: int) -> Int64[Tensor, " batch"]:
    """Return for each image which of `count` ID training images it is moved to, drawn with replacement."""
    return torch.tensor([digest(_TARGET, seed, key) % count for key in keys], dtype=torch.int64)


def _noise(number: int, size: Sequence[int], norm: Norm) -> Tensor:
    # Generators take signed 64-bit seeds.
    generator = torch.Generator().manual_seed(number >> 1)
    if norm == "l2":
        return torch.randn(tuple(size), generator=generator)
    return 2 * torch.rand(tuple(size), generator=generator) - 1
