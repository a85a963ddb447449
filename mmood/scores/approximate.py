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
"""One in this many inverted lists is searched, which makes a search about this many times faster."""

LEAST_PROBES = 8
PER_LIST = 64
"""The largest number of rows per inverted list to learn the centroids from."""


def lists_of(images: int) -> int:
    """Return the number of inverted lists of a bank: 4 sqrt(N), with at least 39 images per list on average.

    >>> lists_of(100), lists_of(20_000), lists_of(1_281_167)
    (2, 512, 4527)
    """
    return max(1, min(int(4 * math.sqrt(images)), images // 39))


def require_faiss(what: str) -> None:
    """Raise MmoodError if faiss is not installed; `what` begins the sentence."""
    if importlib.util.find_spec("faiss") is None:
        raise MmoodError(
            f"{what} needs faiss, which is not installed; pip install 'mmood[faiss]', or set `search: exact`."
        )


@dataclass(frozen=True)
class InvertedLists:
    """A bank of unit rows in inverted lists around centroids; a query is compared with the rows of the nearest lists.

    Rows are kept in half precision, in memory (1.28M x 768: 2 GB). A neighbour found is never more similar than the
    true one; how often it is the true one depends on the data (see the test).

    Attributes:
        index: faiss's index.
        lists: number of inverted lists.
    """

    index: Any
    lists: int

    @classmethod
    def of(cls, images: int, width: int, sample: Float[Tensor, "rows dim"], chunks: Iterable[Tensor]) -> InvertedLists:
        """Return the inverted lists of a bank.

        Args:
            images: N.
            width: D.
            sample: unit rows to learn the centroids from, float32.
            chunks: all unit rows, float32, a chunk at a time.
        """
        faiss = importlib.import_module("faiss")
        lists = lists_of(images)
        metric = faiss.METRIC_INNER_PRODUCT
        coarse = faiss.IndexFlatIP(width)
        index = faiss.IndexIVFScalarQuantizer(coarse, width, lists, faiss.ScalarQuantizer.QT_fp16, metric)
        index.cp.max_points_per_centroid = PER_LIST
        index.nprobe = min(lists, max(LEAST_PROBES, lists // SHARE))
        index.train(_array(sample))
        for chunk in chunks:
            index.add(_array(chunk))
        return cls(index, lists)

    def to(self, device: torch.device) -> InvertedLists:
        """Return the inverted lists, which stay on the CPU."""
        return self

    def nearest(self, queries: Float[Tensor, "batch dim"], k: int) -> Float[Tensor, "batch k"]:
        """Return the similarities of the k most similar rows that were found for each unit query, largest first."""
        if len(queries) == 0:
            return queries.new_empty(0, k)
        rows = _array(queries)
        found, numbers = self.index.search(rows, k)
        few = (numbers < 0).any(axis=1)
        if few.any():
            # The inverted lists that were searched hold fewer than k rows: search all.
            faiss = importlib.import_module("faiss")
            found[few] = self.index.search(rows[few], k, params=faiss.SearchParametersIVF(nprobe=self.lists))[0]
        return torch.from_numpy(found).to(queries.device)


def _array(rows: Tensor) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.ascontiguousarray(rows.float().cpu().numpy())
