"""The order of a stream: a function of the seed and the keys alone, so the same on every machine and rank."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int64, UInt64

from mmood.errors import MmoodError
from mmood.evaluation.streams.settings import Order
from mmood.shards.hashes import digest
from mmood.shards.index import Keys

_ID, _OOD, _SUBSAMPLE = 0, 1, 2


@dataclass(frozen=True)
class StreamOrder:
    """Images in the order in which a score meets them.

    Attributes:
        key: (N,) of the image in its set.
        ood: (N,) whether it is one of the OoD set; no score ever sees this.
    """

    key: Int64[np.ndarray, " images"]
    ood: Bool[np.ndarray, " images"]

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.key)

    def batches(self, size: int) -> Iterator[StreamOrder]:
        """Yield the images in runs of `size`; the last may be shorter."""
        for start in range(0, len(self), size):
            yield StreamOrder(self.key[start : start + size], self.ood[start : start + size])


def stream_order(
    id_keys: Keys, ood_keys: Keys, seed: int, order: Order = "shuffled", ratio: tuple[int, int] | None = None
) -> StreamOrder:
    """Return the stream of an ID and an OoD set.

    Every image has a random rank, a hash of (seed, ID or OoD, key); the stream is in the order of the ranks. So two
    images come in the same order whichever others are there. A subsample is what comes first by another hash: by that
    of the order, the images of the smaller side would all stand at the beginning.

    Args:
        id_keys: of the ID images, in any order.
        ood_keys: of the OoD images, likewise.
        seed: of the ranks.
        order: `shuffled`, or all ID or all OoD images first, each in the order of their ranks.
        ratio: ID:OoD; the most images are taken with which it holds exactly. None takes all.

    Raises:
        MmoodError: a set has too few images for the ratio.

    >>> stream_order(np.arange(3), np.arange(2), seed=0, order="ood-first").ood.tolist()
    [True, True, False, False, False]
    """
    n_id, n_ood = subsample(len(id_keys), len(ood_keys), ratio)
    chosen_id, chosen_ood = _chosen(id_keys, n_id, seed, _ID), _chosen(ood_keys, n_ood, seed, _OOD)
    ranks = {_ID: _ranks(id_keys, seed, _ID), _OOD: _ranks(ood_keys, seed, _OOD)}
    key = np.concatenate([id_keys[chosen_id], ood_keys[chosen_ood]])
    ood = np.repeat([False, True], [n_id, n_ood])
    if order == "shuffled":
        place = np.argsort(np.concatenate([ranks[_ID][chosen_id], ranks[_OOD][chosen_ood]]), kind="stable")
    else:
        place = np.argsort(ood if order == "id-first" else ~ood, kind="stable")
    return StreamOrder(key[place], ood[place])


def subsample(n_id: int, n_ood: int, ratio: tuple[int, int] | None) -> tuple[int, int]:
    """Return the largest numbers of ID and OoD images whose ratio is exactly this one.

    Raises:
        MmoodError: there are not enough.

    >>> subsample(5000, 300, (1, 100)), subsample(5000, 300, (10, 10)), subsample(5, 3, None)
    ((3, 300), (300, 300), (5, 3))
    """
    if ratio is None:
        return n_id, n_ood
    parts = ratio[0] // math.gcd(*ratio), ratio[1] // math.gcd(*ratio)
    times = min(n_id // parts[0], n_ood // parts[1])
    if times == 0:
        raise MmoodError(
            f"`evaluation.stream.ratio` is {list(ratio)}, and there are {n_id} ID and {n_ood} OoD images; choose a "
            "ratio for which there are enough."
        )
    return times * parts[0], times * parts[1]


def _chosen(keys: Keys, count: int, seed: int, side: int) -> Int64[np.ndarray, " chosen"]:
    """Return which `count` of the images are taken, in the order of their ranks."""
    taken = np.lexsort((keys, _ranks(keys, seed, side + _SUBSAMPLE)))[:count]
    ordered: Int64[np.ndarray, " chosen"] = taken[np.lexsort((keys[taken], _ranks(keys[taken], seed, side)))]
    return ordered


def _ranks(keys: Keys, seed: int, side: int) -> UInt64[np.ndarray, " images"]:
    return _mixed(_mixed(keys.astype(np.uint64)) ^ np.uint64(digest(seed, side)))


def _mixed(values: UInt64[np.ndarray, " images"]) -> UInt64[np.ndarray, " images"]:
    """Return SplitMix64's output for each counter: a bijection of 64 bits, modulo 2^64 throughout."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: UInt64[np.ndarray, " images"] = values ^ (values >> np.uint64(31))
    return mixed
