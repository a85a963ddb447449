"""The criteria by which negative labels are chosen: pure functions on unit-norm embeddings.

M candidates, C ID classes, D dimensions. Nothing here builds an (M, C) matrix: 70,000 x 1,000 passes in blocks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

Candidates = Float[Tensor, "candidates dim"]
PerClass = Float[Tensor, "classes dim"]
PerCandidate = Float[Tensor, " candidates"]


@torch.no_grad()
def quantile_similarity(
    candidates: Candidates,
    prototypes: PerClass,
    quantile: float = 0.95,
    near_duplicate: float | None = None,
    rows: int = 4096,
) -> PerCandidate:
    """Return how near each candidate is to the ID classes: the quantile over the classes of its cosines to them.

    q_m = Quantile_{0.95}({n_m . t_c : c = 1..C}), linearly interpolated between the two order statistics around
    position q (C - 1). NegLabel (arXiv 2403.20078) writes the distance -q_m as the 5th percentile of negative cosines.
    The quantile stands in for the maximum because a few ID names are odd themselves.

    Args:
        candidates: (M, D) unit-norm text embeddings.
        prototypes: (C, D) unit-norm text embeddings of the ID names.
        quantile: q in [0, 1]; 1 is the maximum.
        near_duplicate: candidates whose largest cosine is above this get 1, the largest similarity there is, and so
            come last in `select_farthest` (CSP, arXiv 2410.08611, uses 0.95); None for no such rule.
        rows: candidates per block; a block needs rows x C x 4 bytes.

    >>> candidates = torch.eye(3)[:2]
    >>> quantile_similarity(candidates, torch.eye(3), quantile=1.0)
    tensor([1., 1.])
    """
    if not 0 <= quantile <= 1:
        raise ValueError(f"quantile is {quantile}; it must lie in [0, 1].")
    below, weight = divmod(quantile * (len(prototypes) - 1), 1)
    result = candidates.new_empty(len(candidates))
    for block, cosines in _blocks(candidates, prototypes, rows):
        lower, upper, largest = _upper_end(cosines, int(below))
        similarity = torch.lerp(lower, upper, weight)
        if near_duplicate is not None:
            similarity[largest > near_duplicate] = 1.0
        result[block] = similarity
    return result


def select_farthest(similarity: PerCandidate, count: int) -> Int64[Tensor, " chosen"]:
    """Return the indices of the `count` least similar candidates, least similar first, equal ones by index.

    >>> select_farthest(torch.tensor([0.3, 0.1, 0.2, 0.1]), 3)
    tensor([1, 3, 2])
    """
    return torch.argsort(similarity, stable=True)[:count]


def share(fraction: float, count: int) -> int:
    """Return floor(fraction x count), with the fraction read as the decimal that it was written as.

    >>> share(0.29, 100), int(0.29 * 100)
    (29, 28)
    """
    return math.floor(Fraction(str(fraction)) * count)


def split_in_proportion(count: int, nouns: int, adjectives: int) -> tuple[int, int]:
    """Return how many of `count` words to take of each kind: floor(count x adjectives / all) adjectives, else nouns.

    >>> split_in_proportion(2000, nouns=53036, adjectives=7543)
    (1751, 249)
    """
    total = nouns + adjectives
    count = min(count, total)
    quota = count * adjectives // total if total else 0
    return count - quota, quota


@torch.no_grad()
def inter_modal_deviation(
    candidates: Candidates, proxies: PerClass, prototypes: PerClass, rows: int = 4096
) -> tuple[Bool[Tensor, " candidates"], PerCandidate]:
    """Return InterNeg's admissibility and deviation of each candidate (arXiv 2603.02618).

    With b_c = cos(t_c, p_c) of a class's name and its image proxy, a candidate w is admissible if cos(w, p_c) < b_c for
    every class; its deviation is mean_c (b_c - cos(w, p_c)), and the largest deviations are the best negatives.

    Args:
        candidates: (M, D) unit-norm text embeddings.
        proxies: (C, D) unit-norm mean image embedding of each class.
        prototypes: (C, D) unit-norm text embeddings of the ID names.
        rows: candidates per block.

    >>> name, image, word = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.8, 0.6]]), torch.tensor([[0.6, 0.8]])
    >>> inter_modal_deviation(word, image, name)[0]  # cos(word, image) = 0.96 > cos(name, image) = 0.8
    tensor([False])
    """
    base = (prototypes * proxies).sum(-1)
    admissible = torch.empty(len(candidates), dtype=torch.bool, device=candidates.device)
    deviation = candidates.new_empty(len(candidates))
    for block, cosines in _blocks(candidates, proxies, rows):
        gap = base - cosines
        admissible[block] = (gap > 0).all(-1)
        deviation[block] = gap.mean(-1)
    return admissible, deviation


def _blocks(candidates: Tensor, classes: Tensor, rows: int) -> Iterator[tuple[slice, Tensor]]:
    buffer = candidates.new_empty(min(rows, len(candidates)), len(classes))
    for start in range(0, len(candidates), rows):
        part = candidates[start : start + rows]
        yield slice(start, start + rows), torch.mm(part, classes.T, out=buffer[: len(part)])


def _upper_end(cosines: Tensor, index: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return per row the order statistics `index` and `index + 1` (or the last) and the maximum; reorders `cosines`."""
    if cosines.device.type != "cpu":
        return _upper_end_by_topk(cosines, index)
    # numpy's vectorised selection: several times as fast as torch's topk, kthvalue and quantile. It frees the GIL.
    threads = torch.get_num_threads()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda rows: rows.partition(index, axis=-1), np.array_split(cosines.numpy(), threads)))
    above = cosines[:, min(index + 1, cosines.shape[-1] - 1) :]
    return cosines[:, index], above.amin(-1), above.amax(-1)


def _upper_end_by_topk(cosines: Tensor, index: int) -> tuple[Tensor, Tensor, Tensor]:
    top = cosines.topk(cosines.shape[-1] - index, dim=-1).values
    return top[:, -1], top[:, max(-2, -top.shape[-1])], top[:, 0]
