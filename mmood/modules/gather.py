"""Embeddings of all ranks as one batch, with gradient."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, distributed


def world_size() -> int:
    """Return the number of ranks, 1 without a process group."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def rank() -> int:
    """Return this process's rank, 0 without a process group."""
    return distributed.get_rank() if world_size() > 1 else 0


def gathered(own: Shaped[Tensor, "rows ..."]) -> Shaped[Tensor, "all_rows ..."]:
    """Return the rows of all ranks in rank order; the number of rows must be the same on every rank.

    For a loss that every rank computes from all rows, in a model whose gradients DDP averages: then the gradients of
    the weights are exactly those of one process with the whole batch.
    """
    if world_size() == 1:
        return own
    rows: Tensor = _Gather.apply(own)
    return rows


def mean_of_selected(values: Float[Tensor, "*rows"], selected: Bool[Tensor, "*rows"]) -> Float[Tensor, ""]:
    """Return the mean over the selected values of all ranks, as a loss whose gradient DDP averages; 0 if there is none.

    >>> mean_of_selected(torch.tensor([1.0, 2.0, 6.0]), torch.tensor([True, False, True]))
    tensor(3.5000)
    """
    count = selected.sum()
    if world_size() > 1:
        distributed.all_reduce(count)
    # Ranks select different numbers, so a mean of the ranks' means would be another one.
    return (values * selected).sum() * world_size() / count.clamp_min(1)


class _Gather(torch.autograd.Function):
    """Every rank has the whole loss, so its gradient of the own rows needs no exchange; R undoes DDP's mean."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        return _rows_of_all(own)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0].chunk(world_size())[rank()] * world_size()


def _rows_of_all(own: Tensor) -> Tensor:
    parts = [torch.empty_like(own) for _ in range(world_size())]
    distributed.all_gather(parts, own.contiguous())
    return torch.cat(parts)
