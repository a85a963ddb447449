"""How much of a bare decode loop's speed the evaluation loader keeps; at least 0.90 is wanted.

Two processes decode and transform the same encoded images, once in a bare loop over bytes in memory and once through
`EvalLoader` with two workers over a shard on disk. Both start before the clock does, and take turns.

    MMOOD_REAL_DATA=FOLDER python tests/benchmarks/bench_input.py      (FOLDER/data/imagenet-native/*.tar)
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch
from torchvision.transforms import v2

from mmood.loading.decoding import decode_image
from mmood.loading.loader import Decoder, EvalLoader
from mmood.loading.settings import LoaderSettings
from mmood.shards.index import SetIndex
from mmood.shards.reading import RawSample, read_shard
from mmood.shards.shard_index import ShardEntry, ShardIndex

WORKERS, PASSES, ROUNDS, BATCH = 2, 10, 5, 50

# CLIP's own: bicubic to 224 pixels, centre crop, normalisation.
TRANSFORM = v2.Compose(
    [
        v2.Resize(224, interpolation=v2.InterpolationMode.BICUBIC, antialias=True),
        v2.CenterCrop(224),
        v2.PILToTensor(),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    ]
)


def bare_worker(samples: list[RawSample], connection: Connection) -> None:
    """Decode and transform all samples once for each message until None comes."""
    torch.set_num_threads(1)
    while connection.recv() is not None:
        for sample in samples:
            TRANSFORM(decode_image(sample, "ignore"))
        connection.send(len(samples))


class Bare:
    """The bare loop in WORKERS processes."""

    def __init__(self, samples: list[RawSample]) -> None:
        self.pipes = []
        context = multiprocessing.get_context("fork")
        for worker in range(WORKERS):
            ours, theirs = context.Pipe()
            context.Process(target=bare_worker, args=(samples[worker::WORKERS], theirs), daemon=True).start()
            self.pipes.append(ours)

    def one_pass(self) -> int:
        for pipe in self.pipes:
            pipe.send(1)
        return sum(pipe.recv() for pipe in self.pipes)


def repeated(shard: Path, nsamples: int) -> SetIndex:
    """An index that names the shard PASSES times: one pass of the loader is then PASSES passes, with warm workers."""
    entry = ShardEntry(shard.name, nsamples, hashlib.sha256(b"").hexdigest())
    return ShardIndex(shard.parent.name, (entry,) * PASSES, root=str(shard.parent.parent))


def seconds(work: object) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> int:
    """Print the rates and their ratio."""
    root = os.environ.get("MMOOD_REAL_DATA")
    if root is None:
        print("MMOOD_REAL_DATA is not set; it names the folder that holds data/imagenet-native.")
        return 2
    (source,) = (Path(root) / "data/imagenet-native").glob("*.tar")
    with tempfile.TemporaryDirectory() as folder:
        shard = Path(folder) / "native" / source.name
        shard.parent.mkdir()
        shard.symlink_to(source)
        one = ShardIndex("native", (ShardEntry(shard.name, 200, "0" * 64),), root=folder)
        samples = list(read_shard(one.location(0), 200, 0, np.arange(200)))
        index = repeated(shard, len(samples))
        bare = Bare(samples)
        settings = LoaderSettings(workers=WORKERS, prefetch=2)
        loader = EvalLoader(
            index, index.keys(), Decoder(TRANSFORM, None), BATCH, settings, persistent=True
        )  # fmt: skip

        def through_loader() -> None:
            assert sum(len(batch["key"]) for batch in loader) == index.count

        def through_bare() -> None:
            for _ in range(PASSES):
                assert bare.one_pass() == len(samples)

        bare.one_pass()
        through_loader()
        ratios = []
        for number in range(ROUNDS):
            slow, fast = seconds(through_loader), seconds(through_bare)
            ratios.append(fast / slow)
            print(f"round {number}: loader {index.count / slow:7.1f} images/s, bare loop {index.count / fast:7.1f}")
        print(f"loader / bare loop: {statistics.median(ratios):.3f} (median of {ROUNDS} rounds of {PASSES} passes)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
