"""The few-shot draw: which labelled images of each class a method may learn from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from mmood.shards.hashes import digest

if TYPE_CHECKING:  # spawned workers import this module, and the encoders would bring open_clip with them
    from mmood.encoders.base import ImageTransform


def few_shot(labels: Int[Tensor, " rows"], shots: int, seed: int) -> Int[Tensor, " chosen"]:
    """Return the ascending positions of `shots` rows of each class, or of all rows of a class with fewer.

    A pure function of its arguments: each class is drawn by a generator of its own.
    """
    chosen = []
    for label in np.unique(labels.numpy()).tolist():
        rows = (labels == label).nonzero().flatten()
        generator = torch.Generator().manual_seed(digest(seed, label) % 2**63)
        chosen.append(rows[torch.randperm(len(rows), generator=generator)[:shots]])
    return torch.cat(chosen).sort().values if chosen else labels.new_empty(0)


def epoch_order(count: int, seed: int, epoch: int) -> Int[Tensor, " count"]:
    """Return the order of `count` rows in an epoch, a pure function of its arguments.

    >>> sorted(epoch_order(4, seed=0, epoch=1).tolist())
    [0, 1, 2, 3]
    """
    return torch.randperm(count, generator=torch.Generator().manual_seed(digest(seed, epoch) % 2**63))


@dataclass(frozen=True)
class FewShot:
    """Training images that are drawn once for a run.

    Attributes:
        shots: images of each class; None for all.
        seed: of the draw.
        batch_size: images per step, over all devices together.
        transform: from an RGB image to its crops, (V, 3, H, W).
    """

    shots: int | None
    seed: int
    batch_size: int
    transform: ImageTransform

    def drawn(self, labels: Int[Tensor, " rows"]) -> Int[Tensor, " chosen"]:
        """Return the ascending positions of the images that are drawn."""
        return torch.arange(len(labels)) if self.shots is None else few_shot(labels, self.shots, self.seed)

    def of_a_rank(self, count: int, world: int) -> int:
        """Return the images per step of one of `world` devices; a draw smaller than a batch is one batch."""
        return max(1, min(self.batch_size, count) // world)
