"""Rows that differ in number from rank to rank: collected in few pieces, gathered exactly."""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate
from typing import TypeVar, cast

import torch
from torch import Tensor
from torchmetrics.utilities.distributed import gather_all_tensors

from mmood.errors import MmoodError

Item = TypeVar("Item")

# From this many rows on, a piece waits on the CPU. Fewer stay where they are, so that no step waits for the device.
SETTLED = 4096

# Rows of each rank that are sent to the main process at a time.
BLOCK = 2**16


def append(pieces: list[Tensor], rows: Tensor) -> bool:
    """Append `rows` (n, ...) to `pieces`, merging pieces of like size as a binary counter carries.

    So n rows are held in about log2(n) pieces and each is copied about log2(n) times, also in batches of one.

    Returns:
        Whether the last piece was settled on the CPU by this call.
    """
    if not len(rows):
        return False
    piece = _settled(rows)
    while pieces and len(pieces[-1]) <= len(piece):
        piece = _settled(torch.cat([pieces.pop().to(piece.device), piece]))
    pieces.append(piece)
    return len(piece) >= SETTLED


def gathered(pieces: list[Tensor], empty: Tensor, device: torch.device) -> Tensor:
    """Return the rows of all ranks on the CPU, in rank order; every rank must enter, also with no pieces.

    Args:
        pieces: (n, ...) each, n different for each piece and rank.
        empty: (0, ...) of the rows' dtype; it stands for the pieces of a rank without any, which else would enter
            the collective with another dtype and shape than the rest.
        device: where the ranks exchange tensors; NCCL knows only its own devices.
    """
    rows = _whole(pieces, empty)
    if not _many_ranks():
        return rows
    return torch.cat([part.cpu() for part in gather_all_tensors(rows.to(device))])


def collected(pieces: list[Tensor], empty: Tensor, device: torch.device) -> Tensor | None:
    """Return the rows of all ranks on the CPU of the main process, in rank order, and None on every other rank.

    Unlike with `gathered`, the memory of the others is that of their own rows. Every rank must enter, also with no
    pieces; arguments as for `gathered`. Rows are sent in blocks, so that the device needs memory for these alone.
    """
    rows = _whole(pieces, empty)
    if not _many_ranks():
        return rows
    counts = gathered_objects([len(rows)])
    is_main = torch.distributed.get_rank() == 0
    all_rows = rows.new_empty(sum(counts), *rows.shape[1:]) if is_main else None
    for start in range(0, max(counts), BLOCK):
        length = min(BLOCK, max(counts) - start)
        own = rows[start : start + length]
        # `gather` takes the same shape from every rank.
        block = torch.cat([own, own.new_zeros(length - len(own), *own.shape[1:])]).to(device)
        parts = [torch.empty_like(block) for _ in counts] if is_main else None
        torch.distributed.gather(block, parts, dst=0)
        if all_rows is not None and parts is not None:
            for part, count, place in zip(parts, counts, accumulate(counts, initial=0), strict=False):
                valid = max(0, min(length, count - start))
                all_rows[place + start : place + start + valid] = part[:valid].cpu()
    return all_rows


def from_main(make: Callable[[], Item]) -> Item:
    """Return on every rank what the main process makes, a small picklable object. Every rank must enter.

    Raises:
        MmoodError: that of the main process, on every rank, so that none is left waiting.
    """
    if not _many_ranks():
        return make()
    made: list[Item | str | None] = [None, None]
    if torch.distributed.get_rank() == 0:
        try:
            made[0] = make()
        except MmoodError as error:
            made[1] = str(error)
    torch.distributed.broadcast_object_list(made, src=0)
    if made[1] is not None:
        raise MmoodError(made[1])
    return cast(Item, made[0])


def _whole(pieces: list[Tensor], empty: Tensor) -> Tensor:
    return torch.cat([empty.cpu(), *(piece.cpu() for piece in pieces)])


def _many_ranks() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def _settled(piece: Tensor) -> Tensor:
    return piece.cpu() if len(piece) >= SETTLED else piece


def summed(own: Tensor, device: torch.device) -> Tensor:
    """Return the sum of a tensor over all ranks, on the CPU; every rank must enter.

    Args:
        own: on the CPU, of the same shape and dtype on all ranks.
        device: where the ranks exchange tensors.
    """
    if not _many_ranks():
        return own
    total = own.to(device, copy=True)
    torch.distributed.all_reduce(total)
    return total.cpu()


def gathered_objects(own: list[Item]) -> list[Item]:
    """Return the items of all ranks, in rank order, on every rank; for a handful of small picklable objects."""
    if not _many_ranks():
        return own
    parts: list[list[Item]] = [[] for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather_object(parts, own)
    return [item for part in parts for item in part]
