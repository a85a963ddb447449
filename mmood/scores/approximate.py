"""Approximate nearest neighbours by faiss (an optional extra), for banks too large to compare with every image."""

from __future__ import annotations

import importlib
import importlib.util
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mmood.errors import MmoodError

SHARE = 16
"""One in so many cells is searched: a bank is read so many times faster, about."""

LEAST_PROBES = 8
PER_CELL = 64
"""Rows for each cell that the cells are learned from, at most."""


def cells_of(images: int) -> int:
    """Return into how many cells a bank is cut: 4 sqrt(N), and at least 39 images in a cell on average.

    >>> cells_of(100), cells_of(20_000), cells_of(1_281_167)
    (2, 512, 4527)
    """
    return max(1, min(int(4 * math.sqrt(images)), images // 39))


def require_faiss(what: str) -> None:
    """Raise MmoodError if faiss is not installed; `what` begins the sentence."""
    if importlib.util.find_spec("faiss") is None:
        raise MmoodError(f"{what} needs faiss, which is not installed; pip install 'mmood[faiss]', or set exact.")


@dataclass(frozen=True)
class Cells:
    """A bank of unit rows in cells around centroids; a query is compared with the rows of the nearest cells.

    Rows are kept in half precision, in memory (1.28M x 768: 2 GB). What is found is never more similar than the true
    neighbour; how often it is the same depends on the data (see the test).

    Attributes:
        index: faiss's index.
        cells: number of cells.
    """

    index: Any
    cells: int

    @classmethod
    def of(cls, images: int, width: int, sample: Float[Tensor, "rows dim"], chunks: Iterable[Tensor]) -> Cells:
        """Return the cells of a bank.

        Args:
            images: N.
            width: D.
            sample: unit rows that the cells are learned from, float32.
            chunks: all unit rows, float32, a chunk at a time.
        """
        faiss = importlib.import_module("faiss")
        cells = cells_of(images)
        metric = faiss.METRIC_INNER_PRODUCT
        coarse = faiss.IndexFlatIP(width)
        index = faiss.IndexIVFScalarQuantizer(coarse, width, cells, faiss.ScalarQuantizer.QT_fp16, metric)
        index.cp.max_points_per_centroid = PER_CELL
        index.nprobe = min(cells, max(LEAST_PROBES, cells // SHARE))
        index.train(_array(sample))
        for chunk in chunks:
            index.add(_array(chunk))
        return cls(index, cells)

    def to(self, device: torch.device) -> Cells:
        """Return the cells, which stay on the CPU."""
        return self

    def nearest(self, queries: Float[Tensor, "batch dim"], k: int) -> Float[Tensor, "batch k"]:
        """Return the similarities of the k most similar rows that were found for each unit query, largest first."""
        if len(queries) == 0:
            return queries.new_empty(0, k)
        rows = _array(queries)
        found, numbers = self.index.search(rows, k)
        few = (numbers < 0).any(axis=1)
        if few.any():
            # The cells that were searched hold fewer than k rows: search all.
            faiss = importlib.import_module("faiss")
            found[few] = self.index.search(rows[few], k, params=faiss.SearchParametersIVF(nprobe=self.cells))[0]
        return torch.from_numpy(found).to(queries.device)


def _array(rows: Tensor) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.ascontiguousarray(rows.float().cpu().numpy())
