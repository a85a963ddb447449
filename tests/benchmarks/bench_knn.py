"""1-NN of 10,000 queries against 200,000 x 512: `python tests/benchmarks/bench_knn.py [--small] [--k K]`.

The bank is a memory-mapped file in half precision and in float32; faiss.IndexFlatIP gets the same rows, normalised and
in float32, if faiss is installed. Repeats are interleaved, so that other work on the machine falls on both alike. Peak
memory is that of a process that does nothing else, counted from the moment when bank and queries are resident.
"""

from __future__ import annotations

import argparse
import importlib.util
import multiprocessing
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from mmood.scores.base import Bank, Embedded
from mmood.scores.neighbours import KNN

DIM = 512


class BankOnly:
    """A reference with nothing but a bank."""

    class_names = ("one",)

    def __init__(self, rows: Tensor) -> None:
        self.rows = rows

    def bank(self, shots: int | None = None, transform: str = "eval") -> Bank:
        images = len(self.rows)
        return Bank(self.rows, torch.zeros(images, dtype=torch.int64), torch.arange(images), None, {"set": "random"})


def write(path: Path, images: int) -> None:
    generator = torch.Generator().manual_seed(0)
    mapped = torch.from_file(str(path), shared=True, size=images * DIM, dtype=torch.float16).view(images, DIM)
    for start in range(0, images, 8192):
        mapped[start : start + 8192] = torch.randn(len(mapped[start : start + 8192]), DIM, generator=generator)


def mapped_bank(path: Path, images: int) -> Tensor:
    return torch.from_file(str(path), shared=False, size=images * DIM, dtype=torch.float16).view(images, DIM)


def queries(count: int) -> Embedded:
    features = torch.randn(count, DIM, generator=torch.Generator().manual_seed(1))
    return Embedded(features, features.new_zeros(count, 1))


def peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def extra_memory(path: str, images: int, count: int, k: int, answer: multiprocessing.Queue[float]) -> None:
    rows, batch = mapped_bank(Path(path), images), queries(count)
    # Touch every page and warm the matrix product up: neither belongs to the score.
    rows.view(torch.int16)[::1].amax()
    batch.features[:64] @ batch.features[:64].T
    before = peak_megabytes()
    KNN(k).fit(BankOnly(rows))(batch)
    answer.put(peak_megabytes() - before)


def interleaved(calls: dict[str, Callable[[], Tensor]], repeats: int) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for repeat in range(repeats):
        answers = {}
        for name, call in calls.items():
            start = time.perf_counter()
            answers[name] = call()
            seconds[name].append(time.perf_counter() - start)
        taken = ", ".join(f"{name} {times[-1]:.2f} s" for name, times in seconds.items())
        gap = max(float((answer - answers["float32"]).abs().max()) for answer in answers.values())
        print(f"repeat {repeat + 1}: {taken}; largest difference {gap:.1e}", flush=True)
    return seconds


def faiss_search(rows: Tensor, batch: Embedded, k: int) -> Callable[[], Tensor]:
    import faiss

    faiss.omp_set_num_threads(torch.get_num_threads())
    index = faiss.IndexFlatIP(DIM)
    index.add(torch.nn.functional.normalize(rows.float(), dim=1).numpy())
    unit = torch.nn.functional.normalize(batch.features, dim=1).numpy()
    return lambda: torch.from_numpy(index.search(unit, k)[0][:, -1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="2,000 queries against 40,000")
    parser.add_argument("--k", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    images, count = (40_000, 2_000) if arguments.small else (200_000, 10_000)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bank.f16"
        write(path, images)
        context = multiprocessing.get_context("spawn")
        answer = context.Queue()
        child = context.Process(target=extra_memory, args=(str(path), images, count, arguments.k, answer))
        child.start()
        print(f"peak memory beyond bank and queries: {answer.get():.0f} MiB (bound: 300)", flush=True)
        child.join()

        half, batch = mapped_bank(path, images), queries(count)
        scores = {
            "float16": KNN(arguments.k).fit(BankOnly(half)),
            "float32": KNN(arguments.k).fit(BankOnly(half.float())),
        }
        calls: dict[str, Callable[[], Tensor]] = {name: partial(score, batch) for name, score in scores.items()}
        if importlib.util.find_spec("faiss"):
            calls["faiss"] = faiss_search(half, batch, arguments.k)
        seconds = interleaved(calls, arguments.repeats)
    for name, taken in seconds.items():
        line = f"{count:,} x {images:,} x {DIM}, k = {arguments.k}, {torch.get_num_threads()} threads, {name}: "
        line += f"best {min(taken):.2f} s, median {statistics.median(taken):.2f} s"
        if "faiss" in seconds:
            best = min(seconds["faiss"]) / min(taken)
            median = statistics.median(seconds["faiss"]) / statistics.median(taken)
            line += f"; as fast as faiss: {best:.2f} times by the best, {median:.2f} by the median"
        print(line)


if __name__ == "__main__":
    main()
