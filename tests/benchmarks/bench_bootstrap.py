"""1,000 resamples of 50,000 + 10,000 scores against scikit-learn: `python tests/benchmarks/bench_bootstrap.py`.

scikit-learn is charged one `roc_auc_score` and two `roc_curve` a resample (FPR95 needs one for each orientation), and the
drawing of the images; 20 resamples are timed and counted up to 1,000.
"""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score, roc_curve

from mmood.metrics.bootstrap import bootstrap, percentile_interval

N_ID, N_OOD, RESAMPLES, TIMED = 50_000, 10_000, 1000, 20


def theirs(id_scores: NDArray[np.float32], ood_scores: NDArray[np.float32], random: np.random.Generator) -> list[float]:
    drawn_id, drawn_ood = random.choice(id_scores, N_ID), random.choice(ood_scores, N_OOD)
    is_id, scores = np.repeat([1, 0], [N_ID, N_OOD]), np.concatenate([drawn_id, drawn_ood])
    fpr, tpr, _ = roc_curve(is_id, scores, drop_intermediate=False)
    rejected, caught, _ = roc_curve(1 - is_id, -scores, drop_intermediate=False)
    id_pos, ood_pos = fpr[np.argmax(tpr >= 0.95)], rejected[np.argmax(caught >= 0.95)]
    return [float(roc_auc_score(is_id, scores)), float(id_pos), float(ood_pos)]


def main() -> None:
    random = np.random.default_rng(0)
    id_scores, ood_scores = random.normal(2, 1, N_ID).astype("f4"), random.normal(0, 1, N_OOD).astype("f4")
    start, start_cpu = time.perf_counter(), time.process_time()
    found = bootstrap({"s": id_scores}, {"far": {"s": ood_scores}}, RESAMPLES)["s", "far"]
    ours, ours_cpu = time.perf_counter() - start, time.process_time() - start_cpu
    start, start_cpu = time.perf_counter(), time.process_time()
    sample = np.array([theirs(id_scores, ood_scores, random) for _ in range(TIMED)])
    scale = RESAMPLES / TIMED
    slow, slow_cpu = (time.perf_counter() - start) * scale, (time.process_time() - start_cpu) * scale
    print(f"mmood {ours:.2f} s ({ours_cpu:.2f} s of CPU), scikit-learn {slow:.1f} s ({slow_cpu:.1f} s of CPU)")
    print(f"{slow / ours:.0f} times as fast by the clock, {slow_cpu / ours_cpu:.0f} times by the CPU")
    for name, column in zip(("auroc", "fpr95_id_pos", "fpr95_ood_pos"), sample.T, strict=True):
        low, high = percentile_interval(getattr(found, name))
        print(f"  {name:14} [{low:.5f}, {high:.5f}], scikit-learn's mean {column.mean():.5f}")


if __name__ == "__main__":
    main()
