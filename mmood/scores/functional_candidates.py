"""Exact nearest neighbours in two steps on a CPU that multiplies bfloat16: rounded products, then the few that matter.

A product of numbers rounded to bfloat16 is known up to a proven bound. So the rounded products of a query with the
whole bank say which rows can be among its k nearest, and these alone are compared exactly. A query for which too many
remain is left undecided, for a search in float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

ROWS, QUERIES = 4096, 512
"""Rows of the bank and queries that are multiplied at a time: 4 MB of products."""
GROUP = 16
"""Neighbouring rows of the bank, of whose products only the largest is kept."""
MOST = 64
"""Groups that are compared exactly for a query; with more, it is left undecided."""
TURN = 128
"""Pairs of query and group that are compared exactly at a time: with more, fresh pages of memory cost most."""
ROUNDING = 2.0**-8
"""The largest relative error of a number rounded to bfloat16, which has 8 significant bits."""


@dataclass(frozen=True)
class Nearest:
    """The nearest rows of each query.

    Attributes:
        similarities: (B, k) float32, largest first.
        rows: (B, k) int64, their positions in the bank; of equal similarities, the first.
        decided: (B,) bool; the values of a query that is not decided mean nothing.
    """

    similarities: Float[Tensor, "batch k"]
    rows: Int[Tensor, "batch k"]
    decided: Bool[Tensor, " batch"]


class _Pairs(NamedTuple):
    """Queries, and groups of rows that may hold one of their nearest.

    Attributes:
        query: (P,) int64.
        group: (P,) int64.
        upper: (P,) float32, an upper bound of the similarities in the group.
    """

    query: Int[Tensor, " pairs"]
    group: Int[Tensor, " pairs"]
    upper: Float[Tensor, " pairs"]

    def where(self, kept: Bool[Tensor, " pairs"]) -> _Pairs:
        return _Pairs(self.query[kept], self.group[kept], self.upper[kept])


def multiplies_bfloat16() -> bool:
    """Return whether this CPU has the instructions, so that torch multiplies bfloat16 faster than float32."""
    # Of the machine alone, not measured: a run must give the same numbers again.
    has_kernels: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return has_kernels and torch.cpu._is_avx512_bf16_supported()


@torch.no_grad()
def nearest_by_candidates(
    queries: Float[Tensor, "batch dim"],
    bank: Float[Tensor, "images dim"],
    scale: Float[Tensor, " images"],
    k: int = 1,
) -> Nearest:
    """Return the k largest of scale_i <q, b_i> for every query q, and where they are.

    For a query q and a row b of D columns, rounded to q' and b', and u = 2^-8,

        |<q, b> - p| <= ||b|| (||q - q'|| + ||q'|| (u + 2^-23 D (1 + u))) + u |p|

    where p is what the CPU computes for <q', b'>: by Cauchy-Schwarz for the rounding of q and b, then the error of a
    sum of D terms in float32, in any order (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1), and
    the rounding of the sum to bfloat16. So the k-th largest p minus its bound is a lower bound for the k-th similarity,
    and a row whose p plus its bound is less is none of the k nearest. The others are compared in float64.

    Args:
        queries: (B, D) float32.
        bank: (N, D), any floating type, in host memory; it may be memory-mapped.
        scale: (N,) float32, a factor for every row of the bank.
        k: how many, at most N.

    >>> bank = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    >>> nearest_by_candidates(torch.tensor([[0.0, 1.0]]), bank, torch.ones(2)).rows
    tensor([[1]])
    """
    whole = len(bank) - len(bank) % GROUP
    pairs, decided = _candidates(queries, bank[:whole], scale[:whole], k)
    similarities = queries.new_full((len(queries), k), -torch.inf, dtype=torch.float64)
    rows = pairs.group.new_zeros(len(queries), k)
    for query, positions in (*_turns(pairs), *_last_rows(len(queries), range(whole, len(bank)))):
        there = positions.flatten()
        near = (bank.index_select(0, there).float() * scale[there, None]).double()
        near = near.view(*positions.shape, bank.shape[1])
        values = torch.bmm(queries[query].double()[:, None], near.transpose(1, 2))[:, 0]
        both = torch.cat([similarities[query], values], dim=1)
        ranked, order = both.sort(dim=1, descending=True, stable=True)
        similarities[query] = ranked[:, :k]
        rows[query] = torch.cat([rows[query], positions], dim=1).gather(1, order[:, :k])
    return Nearest(similarities.float(), rows, decided)


def _candidates(
    queries: Float[Tensor, "batch dim"], bank: Float[Tensor, "images dim"], scale: Float[Tensor, " images"], k: int
) -> tuple[_Pairs, Bool[Tensor, " batch"]]:
    """Return the pairs that can matter, and which queries have few enough of them."""
    rounded = queries.bfloat16()
    error = _relative_error(queries, rounded.float())
    lowest = queries.new_full((len(queries), k), -torch.inf)
    none = torch.empty(0, dtype=torch.int64)
    pairs = _Pairs(none, none, queries.new_empty(0))
    memory = rounded.new_empty(min(ROWS, len(bank)) * min(QUERIES, len(queries)))
    for start in range(0, len(bank), ROWS):
        rows = bank[start : start + ROWS].to(torch.float32, copy=True).mul_(scale[start : start + ROWS, None])
        bound = error * torch.linalg.vector_norm(rows, dim=1).max()
        rows = rows.bfloat16()
        found = [pairs]
        for first in range(0, len(queries), QUERIES):
            tile = slice(first, first + QUERIES)
            largest = _largest_products(rounded[tile], rows, memory)
            radius = largest.abs().mul_(ROUNDING).add_(bound[tile, None])
            lowest[tile] = _raised(lowest[tile], largest - radius)
            upper = largest.add_(radius)
            query, group = (upper >= lowest[tile, -1:]).nonzero(as_tuple=True)
            found.append(_Pairs(query + first, group + start // GROUP, upper[query, group]))
        pairs = _Pairs(*map(torch.cat, zip(*found, strict=True)))
        if len(pairs.query) > 2 * MOST * len(queries):
            pairs = _few(pairs, lowest)
    return _few(pairs, lowest), lowest[:, -1].isfinite()


def _relative_error(
    queries: Float[Tensor, "batch dim"], rounded: Float[Tensor, "batch dim"]
) -> Float[Tensor, " batch"]:
    """Return the bound of a product before its rounding, for a row of norm 1; 1 % is for the rounding of the bound."""
    size = torch.linalg.vector_norm(rounded, dim=1)
    lost = torch.linalg.vector_norm(queries - rounded, dim=1)
    bound: Tensor = 1.01 * (lost + size * (ROUNDING + 2.0**-23 * queries.shape[1] * (1 + ROUNDING)))
    return bound


def _largest_products(
    queries: Float[Tensor, "batch dim"], rows: Float[Tensor, "rows dim"], memory: Float[Tensor, " products"]
) -> Float[Tensor, "batch groups"]:
    """Return the largest product of each query with each group of rows, in float32."""
    products = torch.mm(rows, queries.T, out=memory[: len(rows) * len(queries)].view(len(rows), len(queries)))
    return products.view(-1, GROUP, len(queries)).amax(dim=1).T.float()


def _raised(lowest: Float[Tensor, "batch k"], lower: Float[Tensor, "batch groups"]) -> Float[Tensor, "batch k"]:
    """Return the k largest lower bounds that are known; every group's is that of another row."""
    k = lowest.shape[1]
    if k == 1:
        return torch.maximum(lowest, lower.amax(dim=1, keepdim=True))
    raised: Tensor = torch.cat([lowest, lower.topk(min(k, lower.shape[1]), dim=1).values], dim=1).topk(k, dim=1).values
    return raised


def _few(pairs: _Pairs, lowest: Float[Tensor, "batch k"]) -> _Pairs:
    """Return the pairs that still matter; give up the queries that have too many, by raising `lowest` beyond all."""
    pairs = pairs.where(pairs.upper >= lowest[pairs.query, -1])
    crowded = torch.bincount(pairs.query, minlength=len(lowest)) > MOST
    lowest[crowded] = torch.inf
    return pairs.where(~crowded[pairs.query])


def _turns(pairs: _Pairs) -> Iterator[tuple[Int[Tensor, " batch"], Int[Tensor, "batch group"]]]:
    """Yield queries and the positions of a group for each: no query twice at a time, the groups of a query in order."""
    query, order = pairs.query.sort(stable=True)
    positions = pairs.group[order, None] * GROUP + torch.arange(GROUP)
    turn = torch.arange(len(query)) - torch.searchsorted(query, query)
    for number in range(int(turn.max()) + 1 if len(turn) else 0):
        now = turn == number
        yield from zip(torch.split(query[now], TURN), torch.split(positions[now], TURN), strict=True)


def _last_rows(queries: int, rows: range) -> Iterator[tuple[Int[Tensor, " batch"], Int[Tensor, "batch rows"]]]:
    """Yield all queries, each with the rows that fill no group."""
    for query in torch.split(torch.arange(queries), TURN) if rows else ():
        yield query, torch.tensor(rows).expand(len(query), -1)
