"""What the ONNX folder saves, and what it adds to onnxruntime.

Cold: CPU seconds of a process from its start to the first decision, against the torch folder; at most 0.25 is wanted.
Warm: one image through the detector against decoding, transform and the bare session; at most 1.10 is wanted.

    MMOOD_REAL_DATA=FOLDER python tests/benchmarks/bench_onnx.py [COLD STARTS] [WARM IMAGES]
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from detectors import read_images, real_data, write_detectors

from mmood.detector.backends.onnx_scorer import INPUT
from mmood.detector.detector import Detector
from mmood.images.rgb import rgb_image

PROGRAM = "import sys; from mmood import Detector; print(Detector.load(sys.argv[1], 'cpu')(sys.argv[2]).accepted)"


def cold(folder: Path, image: Path) -> float:
    """CPU seconds of a process that decides on one image."""
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(folder), str(image)], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0
    return usage.ru_utime + usage.ru_stime


def warm(detector: Detector, images: list[bytes]) -> tuple[float, float]:
    """Median milliseconds an image, through the detector and bare; they take turns."""
    session, transform = detector.scorer.session, detector.manifest.preprocessing
    names = [output.name for output in session.get_outputs()]

    def bare(image: bytes) -> None:
        session.run(names, {INPUT: np.expand_dims(transform.pixels(rgb_image(image, "apply")), 0)})

    seconds: tuple[list[float], list[float]] = ([], [])
    for number, image in enumerate(images):
        for way in (0, 1) if number % 2 else (1, 0):
            start = time.perf_counter()
            (detector, bare)[way](image)
            seconds[way].append(time.perf_counter() - start)
    through, direct = (1000 * statistics.median(entries[20:]) for entries in seconds)
    return through, direct


def main(starts: int = 5, count: int = 500) -> None:
    """Print both ratios."""
    data = real_data()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        images = read_images(data, count)
        (folder / "one.jpg").write_bytes(images[0])
        torch, onnx = write_detectors(data, folder, images)
        rounds = [(cold(torch, folder / "one.jpg"), cold(onnx, folder / "one.jpg")) for _ in range(starts)]
        of_torch, of_onnx = (statistics.median(column) for column in zip(*rounds, strict=True))
        print(f"cold start: torch {of_torch:.2f} CPU s, onnxruntime {of_onnx:.2f}, ratio {of_onnx / of_torch:.3f}")
        through, direct = warm(Detector.load(onnx), images)
        print(f"warm image: detector {through:.2f} ms, bare {direct:.2f} ms, ratio {through / direct:.3f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
