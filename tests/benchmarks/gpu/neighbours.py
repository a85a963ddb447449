"""Exact k-NN: a bank in the card's memory, growth with its size, and a bank that does not fit."""

from __future__ import annotations

import gc
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from bench_knn import BankOnly
from torch import Tensor

from gpu.clock import CUDA, DEVICE, peak_gib, seconds
from mmood.scores.base import Embedded
from mmood.scores.neighbours import KNN


@dataclass(frozen=True)
class Size:
    """Rows of the banks, width, queries, and the batch for the bank that does not fit."""

    banks: tuple[int, ...] = (80_000, 320_000, 1_281_167)
    width: int = 768
    queries: int = 10_000
    batch: int = 512


TINY = Size((50, 100), 8, 20, 5)


def mapped(path: Path, rows: int, width: int) -> Tensor:
    """Return a bank of random halves on the disk, memory-mapped."""
    bank = torch.from_file(str(path), shared=True, size=rows * width, dtype=torch.float16).view(rows, width)
    for number, chunk in enumerate(bank.split(65536)):
        generator = torch.Generator(DEVICE).manual_seed(number)
        chunk.copy_(torch.randn(chunk.shape, generator=generator, device=DEVICE))
    return bank


def measure(size: Size) -> dict[str, object]:
    """Return seconds and peak memory by rows, and those of the bank that does not fit."""
    features = torch.randn(size.queries, size.width, generator=torch.Generator().manual_seed(1)).to(DEVICE)
    queries = Embedded(features, features.new_zeros(size.queries, 1))
    batch = Embedded(features[: size.batch], features.new_zeros(size.batch, 1))
    with tempfile.TemporaryDirectory() as folder:
        bank = mapped(Path(folder) / "bank", size.banks[-1], size.width)
        resident = [_resident(bank[:rows], queries) for rows in size.banks]
        whole = KNN(1).fit(BankOnly(bank))
        expected, batch_seconds = whole(batch), seconds(lambda: whole(batch))
        # Only the copy of the bank is taken away, so that both answer the same queries.
        whole.neighbours_ = None
        return {
            "width": size.width,
            "queries": size.queries,
            "resident": resident,
            "batch": size.batch,
            "bank_bytes": bank.nbytes,
            "batch_seconds": batch_seconds,
            **_beyond_memory(bank, batch, expected),
        }


def _resident(bank: Tensor, queries: Embedded) -> dict[str, float]:
    score = KNN(1).fit(BankOnly(bank))
    score(queries)
    return {
        "rows": len(bank),
        "seconds": seconds(lambda: score(queries), 3),
        "peak_gib": peak_gib(lambda: score(queries)),
    }


def _beyond_memory(bank: Tensor, batch: Embedded, expected: Tensor) -> dict[str, object]:
    """Return what a bank takes that may not use the card: its memory is limited to the bank and half a GiB."""
    score, limit = KNN(1).fit(BankOnly(bank)), bank.nbytes + 2**29
    if CUDA:
        gc.collect()
        torch.cuda.empty_cache()
        total = torch.cuda.get_device_properties(DEVICE).total_memory
        torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + limit) / total)
    try:
        found = score(batch)
        return {
            "limit_bytes": limit,
            "stays_on_host": score.neighbours_.rows.device.type == "cpu",
            "streamed_seconds": seconds(lambda: score(batch), 3),
            "streamed_peak_gib": peak_gib(lambda: score(batch)),
            "streamed_equal": bool(torch.equal(found, expected)),
        }
    finally:
        if CUDA:
            torch.cuda.set_per_process_memory_fraction(1.0)


def lines(found: dict, ceilings: dict) -> list[str]:
    """Return the section."""
    rows = []
    for bank in found["resident"]:
        work = 2 * found["queries"] * bank["rows"] * found["width"]
        rows.append(
            f"| {bank['rows']:,} | {1000 * bank['seconds']:,.0f} ms | {found['queries'] / bank['seconds']:,.0f} | "
            f"{work / bank['seconds'] / ceilings['fp32']:.0%} | {bank['peak_gib']:.2f} GiB |"
        )
    rate = found["bank_bytes"] / found["streamed_seconds"]
    same = "the same to the bit" if found["streamed_equal"] else "NOT the same"
    where = "stayed in host memory" if found["stays_on_host"] else "was copied to the card"
    return [
        "## Exact nearest neighbours",
        "",
        f"{found['queries']:,} queries, k = 1, a bank of halves with {found['width']} columns in the card's memory; "
        "products in float32.",
        "",
        "| images in the bank | time | queries/s | share of the float32 rate | peak memory beyond bank and queries |",
        "|--:|--:|--:|--:|--:|",
        *rows,
        "",
        "The bound is the float32 matrix rate.",
        "",
        f"A bank that does not fit: the card's memory was limited to the bank ({found['bank_bytes'] / 2**30:.2f} GiB) and "
        f"half a GiB, and the memory-mapped bank {where}. A batch of {found['batch']} queries then takes "
        f"{1000 * found['streamed_seconds']:,.0f} ms (from the card's memory: {1000 * found['batch_seconds']:,.0f} ms) and "
        f"{found['streamed_peak_gib']:.2f} GiB at most; the scores are {same}. The bound is the way of the bank to the card: "
        f"{rate / 1e9:.1f} GB/s, where the card takes {ceilings['to_device'] / 1e9:.1f} GB/s from pinned memory. Larger "
        "batches share it.",
    ]
