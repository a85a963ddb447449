"""Exact nearest neighbours by inner product, as pure functions."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from mmood.scores.functional_candidates import multiplies_bfloat16, nearest_by_candidates

ROWS, QUERIES = 8192, 2048
"""Rows of the bank and queries that are compared at a time: 64 MB of similarities."""
GPU_ROWS = 32768
"""Rows that a GPU compares at a time: smaller products leave it waiting for the next one."""
LEAST_QUERIES, LEAST_ROWS, MOST_NEIGHBOURS = 64, 16384, 16
"""Where candidates by bfloat16 pay: the fewest queries, the fewest rows for each neighbour, the most neighbours."""


@torch.no_grad()
def nearest_similarities(
    queries: Float[Tensor, "batch dim"],
    bank: Float[Tensor, "images dim"],
    scale: Float[Tensor, " images"],
    k: int = 1,
) -> Float[Tensor, "batch k"]:
    """Return the k largest of scale_i <q, b_i> for every query q, largest first.

    Exact: every row of the bank is compared. The bank is read in chunks, so that it may be memory-mapped, in any
    precision, and larger than memory; with scale = `inverse_norms(bank)` and unit queries this is the cosine. Beyond
    queries, bank and result it takes about 100 MB, whatever their sizes, and on a GPU about 500. No gradient.

    A CPU that multiplies bfloat16 finds candidates by rounded products (`nearest_by_candidates`) where that is faster:
    the neighbours are the same, and similarities differ by the rounding of float32.

    Args:
        queries: (B, D) float32; the products have their precision.
        bank: (N, D), any floating type; on the device of the queries, or in host memory.
        scale: (N,) float32, a factor for every row of the bank, on the device of the queries.
        k: how many to return, at most N.

    >>> bank = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    >>> nearest_similarities(torch.tensor([[0.0, 1.0]]), bank, inverse_norms(bank), k=2)
    tensor([[1., 0.]])
    """
    if torch.compiler.is_exporting():
        # A graph has no buffers, and no loop over a batch whose size it does not know.
        return (queries @ (bank.float() * scale[:, None]).T).topk(k, dim=1).values
    if not _candidates_pay(queries, bank, k):
        return nearest_by_products(queries, bank, scale, k)
    nearest = nearest_by_candidates(queries, bank, scale, k)
    left = ~nearest.decided
    if left.any():
        nearest.similarities[left] = nearest_by_products(queries[left], bank, scale, k)
    return nearest.similarities


def _candidates_pay(queries: Tensor, bank: Tensor, k: int) -> bool:
    enough = len(queries) >= LEAST_QUERIES and len(bank) >= LEAST_ROWS * k and k <= MOST_NEIGHBOURS
    on_cpu = queries.device.type == bank.device.type == "cpu"
    return enough and on_cpu and queries.dtype == torch.float32 and multiplies_bfloat16()


@torch.no_grad()
def nearest_by_products(
    queries: Float[Tensor, "batch dim"],
    bank: Float[Tensor, "images dim"],
    scale: Float[Tensor, " images"],
    k: int,
) -> Float[Tensor, "batch k"]:
    """Return what `nearest_similarities` does, by products with every row in the precision of the queries."""
    best = queries.new_full((len(queries), k), -torch.inf)
    step = GPU_ROWS if queries.is_cuda else ROWS
    block = queries.new_empty(min(QUERIES, len(queries)) * min(step, len(bank)))
    for start, rows in zip(range(0, len(bank), step), _chunks(bank, step, queries.device), strict=True):
        chunk = rows.to(queries.dtype, copy=True).mul_(scale[start : start + step, None])
        for first in range(0, len(queries), QUERIES):
            tile, found = queries[first : first + QUERIES], best[first : first + QUERIES]
            # One block of memory for all products: fresh pages would cost more than finding the maximum.
            products = block[: len(tile) * len(chunk)].view(len(tile), len(chunk))
            similarities = torch.mm(tile, chunk.T, out=products)
            if k == 1:
                torch.maximum(found, similarities.amax(dim=1, keepdim=True), out=found)
            else:
                candidates = similarities.topk(min(k, len(chunk)), dim=1).values
                found.copy_(torch.cat([found, candidates], dim=1).topk(k, dim=1).values)
    return best


def nearest_products(
    queries: Float[Tensor, "batch dim"],
    bank: Float[Tensor, "images dim"],
    scale: Float[Tensor, " images"],
    k: int = 1,
) -> Float[Tensor, "batch k"]:
    """Return what `nearest_similarities` does, with a gradient to the queries, in their precision.

    Which rows are nearest is found without one; only their products carry it, so the bank stays where it is.

    >>> bank = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    >>> nearest_products(torch.tensor([[0.0, 1.0]]), bank, inverse_norms(bank), k=2)
    tensor([[1., 0.]])
    """
    rows = nearest_rows(queries, bank, scale, k)
    found = bank[rows.to(bank.device)].to(queries) * scale[rows].to(queries)[..., None]
    return torch.einsum("bd,bkd->bk", queries, found)


@torch.no_grad()
def nearest_rows(
    queries: Float[Tensor, "batch dim"],
    bank: Float[Tensor, "images dim"],
    scale: Float[Tensor, " images"],
    k: int = 1,
) -> Int64[Tensor, "batch k"]:
    """Return which rows of the bank have the k largest products with every query, see `nearest_similarities`.

    >>> bank = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    >>> nearest_rows(torch.tensor([[0.0, 1.0]]), bank, inverse_norms(bank))
    tensor([[1]])
    """
    best, rows = queries.new_empty(len(queries), 0), scale.new_empty(len(queries), 0, dtype=torch.int64)
    for start in range(0, len(bank), ROWS):
        chunk = bank[start : start + ROWS].to(queries) * scale[start : start + ROWS, None].to(queries)
        products, numbers = (queries @ chunk.T).topk(min(k, len(chunk)), dim=1)
        joined = torch.cat([best, products], dim=1)
        best, where = joined.topk(min(k, joined.shape[1]), dim=1)
        rows = torch.cat([rows, start + numbers], dim=1).gather(1, where)
    return rows


def _chunks(bank: Tensor, step: int, device: torch.device) -> Iterator[Tensor]:
    """Yield the rows of the bank on a device, `step` at a time.

    What lies in host memory goes to a GPU by way of two pinned buffers: while the GPU compares one chunk, the next is
    read from the disk.
    """
    if bank.device == device:
        yield from torch.split(bank, step)
        return
    buffers = [torch.empty(min(step, len(bank)), bank.shape[1], dtype=bank.dtype, pin_memory=True) for _ in range(2)]
    sent = [torch.cuda.Event() for _ in buffers]  # type: ignore[no-untyped-call]
    for number, rows in enumerate(torch.split(bank, step)):
        buffer, event = buffers[number % 2][: len(rows)], sent[number % 2]
        event.synchronize()
        buffer.copy_(rows)
        chunk = buffer.to(device, non_blocking=True)
        event.record(torch.cuda.current_stream(device))
        yield chunk


def inverse_norms(rows: Float[Tensor, "rows dim"]) -> Float[Tensor, " rows"]:
    """Return 1 / max(||row||, 1e-12) in float32; the cosine of a zero row with anything comes out as 0.

    >>> inverse_norms(torch.tensor([[3.0, 4.0], [0.0, 2.0]]))
    tensor([0.2000, 0.5000])
    """
    norms: Tensor = torch.linalg.vector_norm(rows, dim=1, dtype=torch.float32)
    return norms.clamp_min(1e-12).reciprocal()
