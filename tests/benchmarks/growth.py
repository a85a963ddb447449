"""How time and memory grow with images, scores, classes, negative labels and the bank; writes docs/growth.png.

    python tests/benchmarks/growth.py [--picture FILE] [--kept FILE]

Each curve doubles one number and keeps the others. Printed are CPU time, memory at the peak beyond the inputs, and the
slope of both on a log-log plot over the larger half of the sizes: 1 is linear, 0 is constant. One thread.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from bench_negatives import added_mib
from PIL import Image, ImageDraw, ImageFont
from torch.nn.functional import normalize

from mmood.evaluation.store import ScoreStore
from mmood.metrics.functional import ood_metrics
from mmood.scores import GEN, MCM, Embedded, Energy, MaxLogit
from mmood.scores.functional_negatives import neglabel_log_odds
from mmood.scores.functional_neighbours import inverse_norms, nearest_similarities

WIDTH, BATCH = 256, 256
Call = Callable[[], object]


def unit(rows: int, seed: int) -> torch.Tensor:
    return normalize(torch.randn(rows, WIDTH, generator=torch.Generator().manual_seed(seed)), dim=1)


def evaluation(images: int, scores: int) -> Call:
    """An ID and an OoD set of these images each: their store, their gathering, and the metrics of every score."""
    names = [f"score_{number}" for number in range(scores)]
    rows = torch.randn(2048, scores, generator=torch.Generator().manual_seed(0))

    def run() -> None:
        found = []
        for name in ("id", "ood"):
            store = ScoreStore(name, names)
            for start in range(0, images, len(rows)):
                key = torch.arange(start, min(start + len(rows), images))
                label = torch.zeros(len(key), dtype=torch.int64)
                store.update(key, label, label, rows[: len(key)])
            found.append(store.collected(images))
        for name in names:
            ood_metrics(found[0].of(name), found[1].of(name))

    return run


def by_classes(classes: int) -> Call:
    """Four scores of a batch by its logits, in the parts that a module scores."""
    images, names = unit(BATCH, 0), unit(classes, 1)
    scores = [MCM(), MaxLogit(), Energy(), GEN()]

    def run() -> list[torch.Tensor]:
        batch = Embedded(images, images @ names.T)
        return [score(part) for part in batch.parts() for score in scores]

    return run


def by_negatives(words: int) -> Call:
    return partial(neglabel_log_odds, unit(BATCH, 0), unit(1000, 1), unit(words, 2), 0.01, 100)


def by_bank(images: int) -> Call:
    bank = unit(images, 0).half()
    return partial(nearest_similarities, unit(BATCH, 1), bank, inverse_norms(bank))


@dataclass(frozen=True)
class Curve:
    """What grows, in which sizes, and what is measured for each."""

    name: str
    sizes: list[int]
    work: Callable[[int], Call]


CURVES = [
    Curve("images", [2**power * 50_000 for power in range(6)], lambda images: evaluation(images, 2)),
    Curve("scores", [2**power for power in range(1, 7)], lambda scores: evaluation(100_000, scores)),
    Curve("classes", [2**power * 8_000 for power in range(6)], by_classes),
    Curve("negatives", [2**power * 8_000 for power in range(6)], by_negatives),
    Curve("bank", [2**power * 16_000 for power in range(6)], by_bank),
]


@dataclass(frozen=True)
class Measured:
    """A curve with its CPU seconds and its MiB for each size."""

    curve: Curve
    seconds: list[float]
    mib: list[float]


def measured(curve: Curve) -> Measured:
    points = []
    for size in curve.sizes:
        # A process for each: memory that an earlier size left free would hide what a later one takes.
        with multiprocessing.get_context("fork").Pool(1) as pool:
            points.append(pool.apply(costs, (curve.name, size)))
    return Measured(curve, [seconds for seconds, _ in points], [mib for _, mib in points])


def costs(name: str, size: int) -> tuple[float, float]:
    """Return CPU seconds, the better of two, and MiB at the peak of the first call."""
    torch.set_num_threads(1)
    call = next(curve.work for curve in CURVES if curve.name == name)(size)
    times, mib = [], []
    for _ in range(2):
        start = time.process_time()
        mib.append(added_mib(call))
        times.append(time.process_time() - start)
    return min(times), max(mib[0], 0.1)


def slope(sizes: list[int], values: list[float]) -> float:
    """Return the slope of the least-squares line through the logarithms of the larger half of the sizes."""
    points = [(math.log(size), math.log(value)) for size, value in zip(sizes, values, strict=True)]
    points = points[len(points) // 2 :]
    x, y = (sum(axis) / len(points) for axis in zip(*points, strict=True))
    return sum((a - x) * (b - y) for a, b in points) / sum((a - x) ** 2 for a, _ in points)


INK, GRID = "#222222", "#dddddd"
COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9"]


def picture(curves: list[Measured], path: Path) -> None:
    """Draw both quantities relative to their first value, over sizes relative to the first, on log-log axes."""
    image = Image.new("RGB", (1400, 640), "white")
    draw = ImageDraw.Draw(image)
    panels = {"CPU time": [each.seconds for each in curves], "peak memory": [each.mib for each in curves]}
    for number, (title, values) in enumerate(panels.items()):
        panel(draw, 80 + 680 * number, title, [each.curve for each in curves], values)
    image.save(path)


def panel(draw: ImageDraw.ImageDraw, left: int, title: str, curves: list[Curve], values: list[list[float]]) -> None:
    font = ImageFont.load_default(18)
    step, rise, floor = 75, 62, 560

    def place(across: float, up: float) -> tuple[float, float]:
        return left + step * math.log2(across), floor - rise * math.log2(up)

    for power in range(9):
        draw.line([place(1, 2**power), place(64, 2**power)], GRID)
        draw.text((left - 12, place(1, 2**power)[1]), str(2**power), INK, font, "rm")
    for power in range(7):
        draw.line([place(2**power, 1), place(2**power, 256)], GRID)
        draw.text((place(2**power, 1)[0], floor + 10), str(2**power), INK, font, "ma")
    draw.text((left + 225, 30), f"{title}, times the first", INK, font, "ma")
    draw.text((left + 225, floor + 40), "size, times the first", INK, font, "ma")
    draw.line([place(1, 1), place(64, 64)], "#999999")
    for row, (curve, colour, found) in enumerate(zip(curves, COLOURS, values, strict=False)):
        points = [
            place(size / curve.sizes[0], max(value / found[0], 0.8))
            for size, value in zip(curve.sizes, found, strict=True)
        ]
        draw.line(points, colour, 3)
        draw.text((left + 15, 80 + 26 * row), f"{curve.name}: {slope(curve.sizes, found):.2f}", colour, font)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--picture", type=Path, default=Path("docs/growth.png"))
    parser.add_argument("--kept", type=Path, help="a JSON file of finished curves: those in it are not measured again")
    arguments = parser.parse_args()
    kept = json.loads(arguments.kept.read_text()) if arguments.kept and arguments.kept.exists() else {}
    torch.set_num_threads(1)
    curves = []
    for curve in CURVES:
        found = Measured(curve, *kept[curve.name]) if curve.name in kept else measured(curve)
        curves.append(found)
        kept[curve.name] = (found.seconds, found.mib)
        if arguments.kept:
            arguments.kept.write_text(json.dumps(kept))
        for size, seconds, mib in zip(curve.sizes, found.seconds, found.mib, strict=True):
            print(f"{curve.name} {size:,}: {seconds:.3f} s, {mib:.0f} MiB", flush=True)
        print(
            f"{curve.name}: slope {slope(curve.sizes, found.seconds):.2f} in time, "
            f"{slope(curve.sizes, found.mib):.2f} in memory",
            flush=True,
        )
    picture(curves, arguments.picture)


if __name__ == "__main__":
    main()
