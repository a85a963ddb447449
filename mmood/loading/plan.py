"""Who reads which samples: the split over ranks and workers, made in the main process.

The split belongs here and not into the workers: a worker started by spawn or forkserver knows neither rank nor world.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from mmood.shards.hashes import digest
from mmood.shards.index import Keys, SetIndex


def bounds(count: int, parts: int) -> list[int]:
    """Return the parts + 1 borders that cut `count` things into near-equal runs.

    >>> bounds(10, 4)
    [0, 2, 5, 7, 10]
    """
    return [count * part // parts for part in range(parts + 1)]


def slots(keys: Keys, rank: int, world: int, workers: int) -> tuple[Keys, ...]:
    """Return the contiguous run of `keys` that each worker of this rank reads.

    Over all ranks and workers every key comes exactly once; sizes differ by at most one, over workers and over ranks.

    Args:
        keys: ascending.
        rank: in [0, world).
        world: number of ranks.
        workers: workers per rank, at least 1 (0 worker processes are one worker: the main process).
    """
    cuts = bounds(len(keys), world * workers)[rank * workers : (rank + 1) * workers + 1]
    return tuple(keys[start:stop] for start, stop in pairwise(cuts))


def batches_in(slot_sizes: list[int], batch_size: int) -> int:
    """Return how many batches a rank yields: its workers' ragged ends included, and one if there is nothing."""
    return max(1, sum(-(-size // batch_size) for size in slot_sizes))


def held_out(keys: Keys, fraction: float) -> Keys:
    """Return the keys whose sha256 falls into the lowest `fraction` of its range.

    The same keys on every machine and for every seed, and a larger fraction contains a smaller one.
    """
    limit = int(fraction * 2**64)
    inside = np.fromiter((digest(key) < limit for key in keys.tolist()), dtype=np.bool_, count=len(keys))
    chosen: Keys = keys[inside]
    return chosen


def epoch_keys(index: SetIndex, keys: Keys, seed: int, epoch: int) -> Keys:
    """Return the ascending `keys` with their runs (shards, or single files) in the order of this epoch.

    Within a run they keep theirs.
    """
    runs, member = np.unique(index.runs(keys), return_inverse=True)
    order = np.array([digest(seed, epoch, run) for run in runs.tolist()], dtype=np.uint64)
    chosen: Keys = keys[np.argsort(order[member], kind="stable")]
    return chosen
