"""The few-shot draw: which labelled images of each class a method may learn from."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from mmood.shards.hashes import digest


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
