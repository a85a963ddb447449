"""`mmood detect` over 2,000 images against a bare loop of decoding, transform and tower; at least 0.90 is wanted.

Both read the same files, with the same batches on the same cores, and take turns; the job also writes its rows.

    MMOOD_REAL_DATA=FOLDER python tests/benchmarks/bench_detect.py [IMAGES] [ROUNDS]
"""

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from detectors import read_images, real_data, write_detectors

from mmood.detector.detection import Job, Ranks, Table, find_images_of, run_job
from mmood.detector.detector import Detector
from mmood.detector.scorer import batched

BATCH = 64


def job(detector: Detector, folder: Path, out: Path) -> float:
    start = time.perf_counter()
    images, _ = find_images_of([str(folder)], [])
    run_job(Job(detector, "0" * 64, images, Table(out), BATCH, os.cpu_count() or 1), Ranks())
    return time.perf_counter() - start


def bare(detector: Detector, folder: Path) -> float:
    start = time.perf_counter()
    for paths in batched(sorted(folder.iterdir()), BATCH):
        detector.scorer.score(np.stack([detector.prepared(path) for path in paths]))
    return time.perf_counter() - start


def main(count: int = 2000, rounds: int = 3) -> None:
    """Print the rates and their ratio, for torch and for onnxruntime."""
    data = real_data()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        contents = read_images(data, count)
        (folder / "files").mkdir()
        for number, content in enumerate(contents):
            (folder / "files" / f"{number:05d}.jpg").write_bytes(content)
        for place in write_detectors(data, folder, contents):
            detector = Detector.load(place, "cpu")
            detector(contents[:BATCH])  # what is made at the first use is no part of either
            ratios = []
            for number in range(rounds):
                slow = job(detector, folder / "files", folder / f"{place.name}-{number}.csv")
                fast = bare(detector, folder / "files")
                ratios.append(fast / slow)
                print(f"{place.name} {number}: detect {count / slow:7.1f} images/s, bare loop {count / fast:7.1f}")
            print(f"{place.name}: detect / bare loop {statistics.median(ratios):.3f} (median of {rounds} rounds)")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
