"""One table of many rows, filled block by block; a very large one is mapped from a file and not held in memory."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterable

import torch
from jaxtyping import Float, Float32
from torch import Tensor

from mmood.errors import MmoodError
from mmood.files.cache import cache_folder

LARGE = 2**28
"""Bytes from which a table on the CPU is mapped: 256 MiB, 131,072 rows of 512 columns."""


def filled(
    blocks: Iterable[Float[Tensor, "rows dim"]], rows: int, dim: int, device: torch.device
) -> Float32[Tensor, "all_rows dim"]:
    """Return blocks below one another, without gradient; beyond the table, memory is needed for one block.

    From `LARGE` bytes on, a table on the CPU lies in a temporary file in the cache, from which the system reads what is
    used and drops what is not. The file has no name, and ends with the table.

    Raises:
        MmoodError: the file cannot be written.
    """
    large = device.type == "cpu" and rows * dim * 4 >= LARGE
    table = _mapped(rows, dim) if large else torch.empty(rows, dim, device=device)
    start = 0
    for block in blocks:
        table[start : start + len(block)] = block
        start += len(block)
    return table


def _mapped(rows: int, dim: int) -> Float32[Tensor, "rows dim"]:
    folder = cache_folder("tables")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder) as file:
            # Written now: where a disk fills up below a map, the system kills the process.
            empty_row = bytes(dim * 4)
            file.writelines(itertools.repeat(empty_row, rows))
            file.flush()
            return torch.from_file(file.name, shared=True, size=rows * dim, dtype=torch.float32).view(rows, dim)
    except OSError as error:
        raise MmoodError(
            f"{rows:,} rows of {dim} numbers do not fit into a file in {folder}: {error.strerror}; set MMOOD_CACHE "
            f"to a folder with {rows * dim * 4 / 1e9:.1f} GB of room."
        ) from error
