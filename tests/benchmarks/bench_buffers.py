"""What it saves to reuse the shared memory of batches: time of the loader without reuse, over its time with it.

`fresh` gives every batch new shared memory; `plain` leaves batches to torch's DataLoader, which copies each into new
shared memory. Both are tried on an image set at native size and on one of small images, in turns, as medians of ratios.

    MMOOD_REAL_DATA=FOLDER python tests/benchmarks/bench_buffers.py      (FOLDER/data/imagenet-native, FOLDER/data/id-test)
"""

from __future__ import annotations

import gc
import os
import resource
import statistics
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from bench_input import BATCH, TRANSFORM
from torch import Tensor

from mmood.loading import buffers
from mmood.loading.buffers import Buffers
from mmood.loading.loader import Decoder, EvalLoader
from mmood.loading.settings import LoaderSettings
from mmood.shards.index import SetIndex
from mmood.shards.shard_index import ShardEntry, ShardIndex

ROUNDS, SAMPLES = 9, 1000

Take = Callable[[Buffers, tuple[int, ...]], tuple[Tensor, int]]


def fresh(_: Buffers, shape: tuple[int, ...]) -> tuple[Tensor, int]:
    """Return new shared memory for a batch."""
    return (torch.empty(shape) if 0 in shape else buffers._shared(shape)), -1


def plain(_: Buffers, shape: tuple[int, ...]) -> tuple[Tensor, int]:
    """Return memory of the worker's own."""
    return torch.empty(shape), -1


WAYS: dict[str, Take] = {"reused": Buffers.take, "fresh": fresh, "plain": plain}


def set_of(data: Path, name: str, times: int) -> SetIndex:
    """Return a set of the tar files of a folder, each several times."""
    entries = []
    for path in sorted((data / name).glob("*.tar")):
        with tarfile.open(path) as tar:
            images = {member.name.partition(".")[0] for member in tar if member.isfile()}
        entries.append(ShardEntry(path.name, len(images), "0" * 64))
    return ShardIndex(name, tuple(entries) * times, root=str(data))


def cpu_seconds() -> float:
    """Return the CPU time of this process and of its children that have ended."""
    used = [resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def one_pass(index: SetIndex, take: Take) -> tuple[float, float]:
    """Return CPU and wall time in seconds of one pass with two workers."""
    Buffers.take = take
    keys = index.keys()[:SAMPLES]
    wall, cpu = time.perf_counter(), cpu_seconds()
    loader = EvalLoader(index, keys, Decoder(TRANSFORM, None), BATCH, LoaderSettings(workers=2))
    assert sum(len(batch["key"]) for batch in loader) == len(keys)
    del loader
    gc.collect()  # ends the workers
    return cpu_seconds() - cpu, time.perf_counter() - wall


def ratios(index: SetIndex) -> None:
    """Print the median ratios of a set."""
    one_pass(index, WAYS["reused"])
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in WAYS}
    for number in range(ROUNDS):
        names = [*WAYS][number % len(WAYS) :] + [*WAYS][: number % len(WAYS)]
        for name in names:
            took[name].append(one_pass(index, WAYS[name]))
    for name in ("fresh", "plain"):
        pairs = list(zip(took[name], took["reused"], strict=True))
        cpu, wall = (statistics.median(one[i] / other[i] for one, other in pairs) for i in range(2))
        print(f"{index.name}: {name} takes {cpu:.2f} of the CPU time of reused, {wall:.2f} of the wall time")


def main() -> int:
    """Measure both sets; 0 where there are no data."""
    root = os.environ.get("MMOOD_REAL_DATA")
    if not root:
        print("MMOOD_REAL_DATA is not set; nothing was measured.")
        return 0
    torch.set_num_threads(1)
    data = Path(root) / "data"
    ratios(set_of(data, "imagenet-native", 5))
    ratios(set_of(data, "id-test", 1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
