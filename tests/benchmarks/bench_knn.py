"""Exact nearest neighbours, by default 1-NN of 10,000 queries against 200,000 x 512:

    python tests/benchmarks/bench_knn.py [--small] [--queries B] [--images N] [--width D] [--k K]

The bank is a memory-mapped file in half precision. `score` is what a run does, which takes candidates by bfloat16 on a
CPU that multiplies it; `float32` compares all in float32; faiss.IndexFlatIP gets the same rows, normalised and in
float32, if faiss is installed. Repeats are interleaved, so that other work on the machine falls on all alike. Peak
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
from pathlib import Path

import torch
from torch import Tensor

from mmood.scores import functional_neighbours
from mmood.scores.base import Bank, Embedded
from mmood.scores.neighbours import KNN


class BankOnly:
    """A reference with nothing but a bank."""

    class_names = ("one",)

    def __init__(self, rows: Tensor) -> None:
        self.rows = rows

    def bank(self, shots: int | None = None, transform: str = "eval") -> Bank:
        images = len(self.rows)
        return Bank(self.rows, torch.zeros(images, dtype=torch.int64), torch.arange(images), None, {"set": "random"})


def write(path: Path, images: int, width: int) -> None:
    generator = torch.Generator().manual_seed(0)
    mapped = mapped_bank(path, images, width, shared=True)
    for start in range(0, images, 8192):
        mapped[start : start + 8192] = torch.randn(len(mapped[start : start + 8192]), width, generator=generator)


def mapped_bank(path: Path, images: int, width: int, shared: bool = False) -> Tensor:
    return torch.from_file(str(path), shared=shared, size=images * width, dtype=torch.float16).view(images, width)


def queries(count: int, width: int) -> Embedded:
    features = torch.randn(count, width, generator=torch.Generator().manual_seed(1))
    return Embedded(features, features.new_zeros(count, 1))


def peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def extra_memory(path: str, sizes: argparse.Namespace, answer: multiprocessing.Queue[float]) -> None:
    rows, batch = mapped_bank(Path(path), sizes.images, sizes.width), queries(sizes.queries, sizes.width)
    # Touch every page and warm the matrix product up: neither belongs to the score.
    rows.view(torch.int16)[::1].amax()
    batch.features[:64] @ batch.features[:64].T
    batch.features[:64].bfloat16() @ batch.features[:64].bfloat16().T
    before = peak_megabytes()
    KNN(sizes.k).fit(BankOnly(rows))(batch)
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
    index = faiss.IndexFlatIP(rows.shape[1])
    for some in rows.split(8192):
        index.add(torch.nn.functional.normalize(some.float(), dim=1).numpy())
    unit = torch.nn.functional.normalize(batch.features, dim=1).numpy()
    return lambda: torch.from_numpy(index.search(unit, k)[0][:, -1])


def in_float32(rows: Tensor, batch: Embedded, k: int) -> Callable[[], Tensor]:
    scale = torch.cat([functional_neighbours.inverse_norms(some) for some in rows.split(8192)])
    unit = torch.nn.functional.normalize(batch.features, dim=1)
    return lambda: functional_neighbours.nearest_by_products(unit, rows, scale, k)[:, -1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="2,000 queries against 40,000")
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument("--images", type=int, default=200_000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--k", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    sizes = parser.parse_args()
    if sizes.small:
        sizes.images, sizes.queries = 40_000, 2_000
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bank.f16"
        write(path, sizes.images, sizes.width)
        context = multiprocessing.get_context("spawn")
        answer = context.Queue()
        child = context.Process(target=extra_memory, args=(str(path), sizes, answer))
        child.start()
        print(f"peak memory beyond bank and queries: {answer.get():.0f} MiB (bound: 300)", flush=True)
        child.join()

        rows, batch = mapped_bank(path, sizes.images, sizes.width), queries(sizes.queries, sizes.width)
        score = KNN(sizes.k).fit(BankOnly(rows))
        calls = {"score": lambda: score(batch), "float32": in_float32(rows, batch, sizes.k)}
        if importlib.util.find_spec("faiss"):
            calls["faiss"] = faiss_search(rows, batch, sizes.k)
        seconds = interleaved(calls, sizes.repeats)
    of = f"{sizes.queries:,} x {sizes.images:,} x {sizes.width}, k = {sizes.k}, {torch.get_num_threads()} threads"
    for name, taken in seconds.items():
        ratios = [
            f"{other} takes {min(theirs) / min(taken):.2f} times as long by the best, "
            f"{statistics.median(theirs) / statistics.median(taken):.2f} by the median"
            for other, theirs in seconds.items()
            if other != name
        ]
        print(f"{of}, {name}: best {min(taken):.2f} s, median {statistics.median(taken):.2f} s; " + "; ".join(ratios))


if __name__ == "__main__":
    main()
