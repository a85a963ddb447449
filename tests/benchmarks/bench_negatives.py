"""NegLabel against the bare matrix product, in one run: `python tests/benchmarks/bench_negatives.py`.

10,000 embeddings of 512 dimensions, 1,000 ID prototypes, 10,000 negatives in 100 groups. The direct form builds a
softmax over C + M / G logits for every group, in chunks of 1,000 rows. Peak memory is what each form adds to the
process, measured in a process of its own. CPU time, one thread.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import normalize

from mmood.scores.functional_negatives import neglabel_log_odds

GROUPS = 100


def inputs() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    sizes = (10_000, 1_000, 10_000)
    images, names, words = (normalize(torch.randn(n, 512, generator=generator), dim=-1) for n in sizes)
    return images, names, words


def ours(images: Tensor, names: Tensor, words: Tensor) -> Tensor:
    return neglabel_log_odds(images, names, words, 0.01, GROUPS)


def direct(images: Tensor, names: Tensor, words: Tensor) -> Tensor:
    scores = []
    for part in images.split(1000):
        positive, negative = 100 * part @ names.T, (100 * part @ words.T).view(len(part), GROUPS, -1)
        mass = [
            torch.cat([positive, negative[:, group]], dim=1).softmax(-1)[:, : len(names)].sum(-1)
            for group in range(GROUPS)
        ]
        scores.append(torch.stack(mass).mean(0))
    return torch.cat(scores)


def best(
    calls: dict[str, Callable[[], object]], rounds: int = 5, clock: Callable[[], float] = time.process_time
) -> dict[str, float]:
    """Return each call's best time; the calls take turns, so that a busy machine is busy for all."""
    times = dict.fromkeys(calls, float("inf"))
    for _ in range(rounds):
        for name, call in calls.items():
            start = clock()
            call()
            times[name] = min(times[name], clock() - start)
    return times


def added_mib(call: Callable[[], object]) -> float:
    """Return by how much a call raises the resident memory of this process at its peak (Linux)."""

    def status(key: str) -> float:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith(key)) / 1024

    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = status("VmRSS")
    call()
    return status("VmHWM") - before


def main() -> None:
    torch.set_num_threads(1)
    images, names, words = inputs()
    if len(sys.argv) > 1:
        images[:64] @ names.T  # the product's own workspace
        form = {"ours": ours, "direct": direct}[sys.argv[1]]
        print(f"{added_mib(lambda: form(images, names, words)):.0f}")
        return
    texts = torch.cat([names, words])
    product = torch.empty(len(images), len(texts))
    calls: dict[str, Callable[[], object]] = {
        "product": lambda: torch.mm(images, texts.T, out=product),
        "ours": lambda: ours(images, names, words),
        "direct": lambda: direct(images, names, words),
    }
    times = best(calls)
    memory = {
        name: subprocess.check_output([sys.executable, __file__, name], text=True).strip() for name in list(times)[1:]
    }
    print(f"bare product {times['product'] * 1e3:.0f} ms")
    for name in ("ours", "direct"):
        print(f"{name}: {times[name] / times['product']:.2f} times the product, {memory[name]} MiB beyond the inputs")
    gap = (ours(images, names, words).sigmoid() - direct(images, names, words)).abs().max()
    print(f"largest difference of S: {gap:.1e}")


if __name__ == "__main__":
    main()
