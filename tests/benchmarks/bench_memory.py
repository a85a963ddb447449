"""What an evaluation keeps per image and score; at most 64 bytes are wanted.

Two evaluations of different size go through the store, the gather and the metrics, as `OoDCallback` does; the growth of
the peak between them, divided by the images and scores that the larger has more, is what each costs.

    python tests/benchmarks/bench_memory.py
"""

from __future__ import annotations

import resource
import subprocess
import sys

import numpy as np
import torch

from mmood.evaluation.store import ScoreStore
from mmood.metrics.functional import ood_metrics

SCORES, BATCH, SMALL, LARGE = 7, 256, 200_000, 2_000_000


def evaluate(images: int) -> int:
    """Evaluate an ID and an OoD set of half the images each; return the peak memory of this process in bytes."""
    names = [f"score_{number}" for number in range(SCORES)]
    generator = torch.Generator().manual_seed(0)
    found = {}
    for name in ("id", "ood"):
        store = ScoreStore(name, names)
        for start in range(0, images // 2, BATCH):
            key = torch.arange(start, min(start + BATCH, images // 2))
            label = torch.zeros(len(key), dtype=torch.int64)
            store.update(key, label, label, torch.randn(len(key), SCORES, generator=generator))
        found[name] = store.gathered(images // 2)
    for name in names:
        assert np.isfinite(ood_metrics(found["id"].of(name), found["ood"].of(name)).auroc)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> int:
    """Print the bytes per image and score."""
    if len(sys.argv) > 1:
        print(evaluate(int(sys.argv[1])))
        return 0
    small, large = (
        int(subprocess.run([sys.executable, __file__, str(images)], capture_output=True, check=True).stdout)
        for images in (SMALL, LARGE)
    )
    each = (large - small) / (LARGE - SMALL) / SCORES
    print(f"{SMALL:,} images: {small / 2**20:.0f} MiB, {LARGE:,} images: {large / 2**20:.0f} MiB at the peak")
    print(f"{each:.1f} bytes per image and score ({SCORES} scores; 64 wanted)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
