"""Seven logit scores together against the dearest of them: `python tests/benchmarks/bench_logits.py`.

Batches of 256 images and 1,000 classes, one thread; the scores share the softmax of a batch. Less than twice is wanted.
"""

from __future__ import annotations

import statistics
import time

import torch

from mmood.scores import GEN, MCM, Embedded, Energy, Entropy, Margin, MaxLogit, SoftmaxVariance
from mmood.scores.base import AbstractScore

BATCHES, ROUNDS = 20, 15


def seconds(scores: list[AbstractScore], logits: torch.Tensor) -> float:
    """Return the CPU time of the scores of one image."""
    start = time.process_time()
    for _ in range(BATCHES):
        batch = Embedded(logits, logits)
        for score in scores:
            score(batch)
    return (time.process_time() - start) / BATCHES / len(logits)


def main() -> None:
    """Print CPU seconds for a million images, each score by itself and all together."""
    torch.set_num_threads(1)
    logits = 0.2 + 0.03 * torch.randn(256, 1000, generator=torch.Generator().manual_seed(0))
    scores = [MaxLogit(), Margin(), Energy(), MCM(), SoftmaxVariance(), Entropy(), GEN()]
    calls = {type(score).__name__: [score] for score in scores} | {"together": scores}
    rounds = [{name: seconds(call, logits) for name, call in calls.items()} for _ in range(ROUNDS)]
    medians = {name: statistics.median(found[name] for found in rounds) for name in calls}
    for name, taken in medians.items():
        print(f"{name}: {1e6 * taken:.1f} s of CPU for 1,000,000 images")
    ratio = statistics.median(found["together"] / max(found[name] for name in list(calls)[:-1]) for found in rounds)
    print(f"together / dearest: {ratio:.2f}")


if __name__ == "__main__":
    main()
