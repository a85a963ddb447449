"""Rows that differ in number from rank to rank: collected in few pieces, gathered exactly."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor
from torchmetrics.utilities.distributed import gather_all_tensors

Item = TypeVar("Item")

# From this many rows on, a piece waits on the CPU. Fewer stay where they are, so that no step waits for the device.
SETTLED = 4096


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
    rows = torch.cat([empty.cpu(), *(piece.cpu() for piece in pieces)])
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return rows
    return torch.cat([part.cpu() for part in gather_all_tensors(rows.to(device))])


def _settled(piece: Tensor) -> Tensor:
    return piece.cpu() if len(piece) >= SETTLED else piece


def summed(own: Tensor, device: torch.device) -> Tensor:
    """Return the sum of a tensor over all ranks, on the CPU; every rank must enter.

    Args:
        own: on the CPU, of the same shape and dtype on all ranks.
        device: where the ranks exchange tensors.
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return own
    total = own.to(device, copy=True)
    torch.distributed.all_reduce(total)
    return total.cpu()


def gathered_objects(own: list[Item]) -> list[Item]:
    """Return the items of all ranks, in rank order, on every rank; for a handful of small picklable objects."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return own
    parts: list[list[Item]] = [[] for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather_object(parts, own)
    return [item for part in parts for item in part]
