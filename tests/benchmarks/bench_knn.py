"""Exact nearest neighbours, by default 1-NN of 1,024 queries against 200,000 x 512:

    python tests/benchmarks/bench_knn.py [--queries B] [--images N] [--width D] [--k K] [--spread S]

Rows and queries lie around 1,000 random unit vectors, as features of images lie around their classes; with a spread of 0
they are isotropic noise, in which the nearest are hardly nearer than others. The bank is a memory-mapped file in half
precision. `score` is what a run does, which takes candidates by bfloat16 on a
CPU that multiplies it; `float32` compares all in float32; faiss.IndexFlatIP gets the same rows, normalised and in
float32, if faiss is installed. Repeats are interleaved, and CPU time counts. Peak
memory is that of a process that does nothing else, counted from the moment when bank and queries are resident.
"""

from __future__ import annotations

import argparse
import importlib.util
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from bench_negatives import added_mib
from torch import Tensor
from torch.nn.functional import normalize

from mmood.scores import functional_neighbours
from mmood.scores.base import Bank, Embedded
from mmood.scores.neighbours import KNN

CENTRES = 1_000


class BankOnly:
    """A reference with nothing but a bank."""

    class_names = ("one",)

    def __init__(self, rows: Tensor) -> None:
        self.rows = rows

    def bank(self, shots: int | None = None, transform: str = "eval") -> Bank:
        images = len(self.rows)
        return Bank(self.rows, torch.zeros(images, dtype=torch.int64), torch.arange(images), None, {"set": "random"})


def clustered(count: int, width: int, spread: float, generator: torch.Generator) -> Tensor:
    """Return rows around random unit vectors: noise of length `spread` on each, or noise alone for 0."""
    noise = torch.randn(count, width, generator=generator)
    if spread == 0:
        return noise
    centres = normalize(torch.randn(CENTRES, width, generator=torch.Generator().manual_seed(2)), dim=1)
    return centres[torch.randint(CENTRES, (count,), generator=generator)] + noise * (spread / width**0.5)


def write(path: Path, images: int, width: int, spread: float) -> None:
    generator = torch.Generator().manual_seed(0)
    mapped = mapped_bank(path, images, width, shared=True)
    for start in range(0, images, 8192):
        mapped[start : start + 8192] = clustered(len(mapped[start : start + 8192]), width, spread, generator)


def mapped_bank(path: Path, images: int, width: int, shared: bool = False) -> Tensor:
    return torch.from_file(str(path), shared=shared, size=images * width, dtype=torch.float16).view(images, width)


def queries(count: int, width: int, spread: float) -> Embedded:
    features = clustered(count, width, spread, torch.Generator().manual_seed(1))
    return Embedded(features, features.new_zeros(count, 1))


def extra_memory(path: str, sizes: argparse.Namespace, answer: multiprocessing.Queue[float]) -> None:
    rows, batch = mapped_bank(Path(path), sizes.images, sizes.width), queries(sizes.queries, sizes.width, sizes.spread)
    # Touch every page and warm the matrix product up: neither belongs to the score.
    rows.view(torch.int16)[::1].amax()
    batch.features[:64] @ batch.features[:64].T
    batch.features[:64].bfloat16() @ batch.features[:64].bfloat16().T
    answer.put(added_mib(lambda: KNN(sizes.k).fit(BankOnly(rows))(batch)))


def interleaved(calls: dict[str, Callable[[], Tensor]], repeats: int) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for repeat in range(repeats):
        answers = {}
        for name, call in calls.items():
            start = time.process_time()
            answers[name] = call()
            seconds[name].append(time.process_time() - start)
        taken = ", ".join(f"{name} {times[-1]:.2f} s" for name, times in seconds.items())
        gap = max(float((answer - answers["float32"]).abs().max()) for answer in answers.values())
        print(f"repeat {repeat + 1}: {taken}; largest difference {gap:.1e}", flush=True)
    return seconds


def faiss_search(rows: Tensor, batch: Embedded, k: int) -> Callable[[], Tensor]:
    import faiss

    faiss.omp_set_num_threads(torch.get_num_threads())
    index = faiss.IndexFlatIP(rows.shape[1])
    for some in rows.split(8192):
        index.add(normalize(some.float(), dim=1).numpy())
    unit = normalize(batch.features, dim=1).numpy()
    return lambda: torch.from_numpy(index.search(unit, k)[0][:, -1])


def in_float32(rows: Tensor, batch: Embedded, k: int) -> Callable[[], Tensor]:
    scale = torch.cat([functional_neighbours.inverse_norms(some) for some in rows.split(8192)])
    unit = normalize(batch.features, dim=1)
    return lambda: functional_neighbours.nearest_by_products(unit, rows, scale, k)[:, -1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=1_024)
    parser.add_argument("--images", type=int, default=200_000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--k", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--spread", type=float, default=1.0)
    sizes = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bank.f16"
        write(path, sizes.images, sizes.width, sizes.spread)
        context = multiprocessing.get_context("spawn")
        answer = context.Queue()
        child = context.Process(target=extra_memory, args=(str(path), sizes, answer))
        child.start()
        print(f"peak memory beyond bank and queries: {answer.get():.0f} MiB (bound: 300)", flush=True)
        child.join()

        rows, batch = mapped_bank(path, sizes.images, sizes.width), queries(sizes.queries, sizes.width, sizes.spread)
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
