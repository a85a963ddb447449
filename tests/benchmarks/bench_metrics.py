"""All metrics of 1,000,000 and 20,000 scores against scikit-learn, in one run: `python tests/benchmarks/bench_metrics.py`.

scikit-learn is charged one `roc_curve`, one `roc_auc_score` and two `average_precision_score`. One curve is generous:
the two FPR95 need it once for each orientation. CPU time; the two take turns, and the medians count.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from mmood.metrics.functional import ood_metrics

Scores = NDArray[np.float32]


def medians(calls: list[Callable[[], object]], repeats: int = 5) -> list[float]:
    """Return the median CPU seconds of calls that take turns."""

    def once(call: Callable[[], object]) -> float:
        start = time.process_time()
        call()
        return time.process_time() - start

    rounds = [[once(call) for call in calls] for _ in range(repeats)]
    return [statistics.median(column) for column in zip(*rounds, strict=True)]


def ours(id_scores: Scores, ood_scores: Scores) -> list[float]:
    metrics = ood_metrics(id_scores, ood_scores)
    return [metrics.auroc, metrics.aupr_id, metrics.aupr_ood, metrics.fpr95_id_pos]


def theirs(is_id: NDArray[np.int64], scores: Scores) -> list[float]:
    fpr, tpr, _ = roc_curve(is_id, scores, drop_intermediate=False)
    return [
        float(roc_auc_score(is_id, scores)),
        float(average_precision_score(is_id, scores)),
        float(average_precision_score(1 - is_id, -scores)),
        float(fpr[np.argmax(tpr >= 0.95)]),
    ]


def main() -> None:
    random = np.random.default_rng(0)
    for n_id, n_ood in ((500_000, 500_000), (50_000, 950_000), (10_000, 10_000)):
        for kind in ("float32", "float64"):
            id_scores = random.normal(1, 1, n_id).astype(kind)
            ood_scores = random.normal(0, 1.4, n_ood).astype(kind)
            is_id, scores = np.repeat([1, 0], [n_id, n_ood]), np.concatenate([id_scores, ood_scores])
            fast, slow = medians([partial(ours, id_scores, ood_scores), partial(theirs, is_id, scores)])
            gap = np.abs(np.subtract(ours(id_scores, ood_scores), theirs(is_id, scores))).max()
            print(
                f"{n_id:>7,} ID, {n_ood:>7,} OoD, {kind}: mmood {fast * 1e3:4.0f} ms, scikit-learn "
                f"{slow * 1e3:4.0f} ms, {slow / fast:.1f} times as fast, largest difference {gap:.1e}"
            )


if __name__ == "__main__":
    main()
