"""Metrics of pixels: against scikit-learn on a set the size of CamVid's test images, time and memory, exact and from counts.

python tests/benchmarks/bench_pixels.py
"""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from mmood.metrics.pixels import Histogram, exact_metrics

IMAGES, HEIGHT, WIDTH, SCORES = 233, 180, 240, 4
SHARE_OOD = 0.03


def pixels(images: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return scores (n,) float32 and which of the pixels are OoD."""
    draw = np.random.default_rng(seed)
    is_ood = draw.random(images * HEIGHT * WIDTH) < SHARE_OOD
    return draw.normal(size=len(is_ood)).astype(np.float32) - is_ood, is_ood


def by_scikit_learn(scores: np.ndarray, is_ood: np.ndarray) -> tuple[float, ...]:
    """Return the five rates as a user of scikit-learn gets them."""
    fpr, tpr, _ = roc_curve(~is_ood, scores, drop_intermediate=False)
    other_fpr, other_tpr, _ = roc_curve(is_ood, -scores, drop_intermediate=False)
    return (
        roc_auc_score(~is_ood, scores),
        average_precision_score(~is_ood, scores),
        average_precision_score(is_ood, -scores),
        fpr[np.searchsorted(tpr, 0.95)],
        other_fpr[np.searchsorted(other_tpr, 0.95)],
    )


def by_counts(scores: np.ndarray, is_ood: np.ndarray) -> tuple[float, ...]:
    """Return the five rates from a histogram, filled image by image."""
    histogram = Histogram()
    for start in range(0, len(scores), HEIGHT * WIDTH):
        image = slice(start, start + HEIGHT * WIDTH)
        histogram.add(scores[image], is_ood[image])
    return rates(histogram.metrics())


def counted(images: int) -> None:
    """Count the pixels of so many images."""
    histogram = Histogram()
    for seed in range(images):
        histogram.add(*pixels(1, seed))
    histogram.metrics()


def rates(metrics: object) -> tuple[float, ...]:
    """Return the five rates of metrics."""
    return tuple(getattr(metrics, name) for name in ("auroc", "aupr_id", "aupr_ood", "fpr95_id_pos", "fpr95_ood_pos"))


def exactly(scores: np.ndarray, is_ood: np.ndarray) -> tuple[float, ...]:
    """Return the five rates, exactly."""
    return rates(exact_metrics(scores, is_ood))


def seconds(work: Callable[[], object]) -> float:
    """Return the CPU seconds of the process."""
    before = time.process_time()
    work()
    return time.process_time() - before


def peak(work: Callable[[], object]) -> int:
    """Return the bytes that were allocated at the same time, beyond what is there already."""
    tracemalloc.start()
    work()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most


def main() -> None:
    """Print ratios of time, and memory a pixel and score."""
    sets = [pixels(IMAGES, seed) for seed in range(SCORES)]
    count = len(sets[0][0])
    for ours in (exactly, by_counts):
        difference = max(abs(a - b) for one in sets[:1] for a, b in zip(ours(*one), by_scikit_learn(*one), strict=True))
        ratio = seconds(lambda: by_scikit_learn(*sets[0])) / seconds(lambda: ours(*sets[0]))  # noqa: B023
        # One score after the other: the memory of one serves all.
        beyond = max(peak(lambda: ours(*one)) for one in sets[:1])  # noqa: B023
        print(
            f"{ours.__name__}: {ratio:.1f} times scikit-learn over {count:,} pixels; "
            f"{beyond / (count * SCORES):.2f} bytes a pixel and score beyond {SCORES} scores; "
            f"largest difference of a rate {difference:.1e}"
        )
    # The pixels of each image are made as they are counted.
    few, many = (peak(lambda: counted(images)) for images in (20, 200))  # noqa: B023
    print(f"counts of ten times the pixels take {many / few:.2f} times the memory, {many / 2**20:.0f} MiB")


if __name__ == "__main__":
    main()
