"""A report over 6 runs x 12 scores x 5 sets of 50,000 + 10,000 scores: `python tests/benchmarks/bench_report.py`."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from mmood.cli.report import write_report
from mmood.evaluation.predictions import write_scores
from mmood.evaluation.store import SetScores
from mmood.metrics.functional import ood_metrics
from mmood.results.model import IdRow, ResultRow, build_results
from mmood.results.serialisation import write_results

RUNS, SCORES, N_ID, N_OOD = 6, 12, 50_000, 10_000
SETS = {"ssb_hard": "near", "ninco": "near", "inaturalist": "far", "textures": "far", "openimage_o": "far"}


def make_run(folder: Path, number: int) -> None:
    random = np.random.default_rng(number)
    names = tuple(f"score_{i}" for i in range(SCORES))
    shift = {"imagenet": 2.0, **{name: 0.3 * i for i, name in enumerate(SETS)}}
    files = {}
    for name, mean in shift.items():
        size = N_ID if name == "imagenet" else N_OOD
        label = random.integers(0, 1000, size) if name == "imagenet" else np.full(size, -1)
        scores = random.normal(mean, 1, (size, SCORES)).astype(np.float32)
        predicted = np.where(random.random(size) < 0.7, label, random.integers(0, 1000, size))
        files[name] = SetScores(name, names, np.arange(size), label, predicted, scores, np.empty(0, np.int64))
        write_scores(folder, files[name])
    rows = [
        ResultRow(
            score=score, set=name, group=group, metrics=ood_metrics(files["imagenet"].of(score), files[name].of(score))
        )
        for score in names
        for name, group in SETS.items()
    ]
    id_rows = [IdRow(set="imagenet", n=N_ID, accuracy=0.7)]
    write_results(folder, build_results(stage="test", provenance={"seed": number}, id_rows=id_rows, rows=rows))


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folders = [Path(name) / f"run_{number}" for number in range(RUNS)]
        for number, folder in enumerate(folders):
            make_run(folder, number)
        out = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(name) / "report.html"
        start, start_cpu = time.perf_counter(), time.process_time()
        write_report(folders, out)
        wall, cpu = time.perf_counter() - start, time.process_time() - start_cpu
        print(f"{wall:.1f} s, {cpu:.1f} s of CPU; page {out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
