"""The limits that the other measurements are held against: matrix rates and bandwidths of this card, as measured."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from gpu.clock import CUDA, DEVICE, seconds


@dataclass(frozen=True)
class Size:
    """Side of the square matrices, and bytes that are copied."""

    side: int = 8192
    copied: int = 2**30


TINY = Size(64, 2**12)


def measure(size: Size) -> dict[str, float]:
    """Return operations and bytes per second."""
    found = {}
    for name, kind in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
        # Random, not zeros: on zeros a card is faster than on data.
        left, right = (torch.randn(size.side, size.side, device=DEVICE).to(kind) for _ in range(2))
        found[name] = 2 * size.side**3 / seconds(lambda left=left, right=right: left @ right)
    source = torch.randint(100, (size.copied,), dtype=torch.uint8, device=DEVICE)
    target = torch.empty_like(source)
    host = torch.empty(size.copied, dtype=torch.uint8, pin_memory=CUDA)
    # Read once, written once.
    found["memory"] = 2 * size.copied / seconds(lambda: target.copy_(source))
    found["to_device"] = size.copied / seconds(lambda: target.copy_(host))
    return found


def lines(found: dict) -> list[str]:
    """Return the section."""
    return [
        "## The card's own limits",
        "",
        "| | measured |",
        "|---|--:|",
        f"| matrix product, bf16 | {found['bf16'] / 1e12:,.0f} TFLOP/s |",
        f"| matrix product, float32 (no TF32) | {found['fp32'] / 1e12:,.1f} TFLOP/s |",
        f"| copy within its memory, read and written | {found['memory'] / 1e12:,.2f} TB/s |",
        f"| copy from pinned host memory | {found['to_device'] / 1e9:,.1f} GB/s |",
    ]
