"""In which order training images come: along shards, or freely where each can be read alone or memory holds them."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import final

import numpy as np

from mmood.loading.few_shot import epoch_order
from mmood.loading.plan import epoch_keys
from mmood.loading.settings import LoaderSettings
from mmood.shards.hashes import digest
from mmood.shards.index import Keys, SetIndex
from mmood.shards.reading import RawSample, Skipped


@dataclass(frozen=True)
class Share:
    """Which part of each epoch a rank trains on.

    Attributes:
        steps: batches of an epoch.
        batch_size: samples per batch and rank.
        rank: in [0, world).
        world: number of ranks.
    """

    steps: int
    batch_size: int
    rank: int
    world: int

    def positions(self, count: int, seed: int, epoch: int, slot: int, workers: int, start: int) -> Keys:
        """Return which of `count` shuffled samples are in batches of this rank; the ranks share each global batch.

        Args:
            count: number of samples.
            seed: of the order.
            epoch: the epoch.
            slot: the first of the batches.
            workers: the distance between two of them.
            start: batches before this one are left out.
        """
        order: Keys = epoch_order(count, seed, epoch).numpy()
        steps = (step for step in range(slot, self.steps, workers) if step >= start)
        firsts = [(step * self.world + self.rank) * self.batch_size for step in steps]
        return np.concatenate([order[:0], *(order[first : first + self.batch_size] for first in firsts)])

    def identity(self, index_hash: str, count: int, seed: int) -> dict[str, int | str]:
        """Return what this order depends on."""
        return {"index": index_hash, "samples": count, "seed": seed, "global_batch": self.batch_size * self.world}


class SampleOrder(ABC):
    """The order of an epoch's samples; picklable, so that workers can be started in any way."""

    @abstractmethod
    def samples(self, epoch: int, slot: int, workers: int, start: int) -> Iterator[RawSample | Skipped]:
        """Yield the samples of the batches numbered slot, slot + workers, ... of a rank, batch after batch.

        Args:
            epoch: the epoch.
            slot: the first of its batches.
            workers: the distance between two of them.
            start: batches before this one are left out.
        """

    @abstractmethod
    def identity(self) -> dict[str, int | str]:
        """Return the settings that make the order."""


@final
class ShardOrder(SampleOrder):
    """Shard after shard in an order drawn for the epoch; each worker draws from a buffer of encoded samples.

    So shuffling and fast-forward decode nothing, and a shard is read from its beginning to its end. The order is a pure
    function of (seed, epoch, ranks, workers).

    Args:
        index: the training set.
        keys: which of them, ascending.
        settings: seed, workers, buffer, behaviour on errors.
        share: of the rank.
    """

    def __init__(self, index: SetIndex, keys: Keys, settings: LoaderSettings, share: Share) -> None:
        self.index, self.keys, self.settings, self.share = index, keys, settings, share

    def samples(self, epoch: int, slot: int, workers: int, start: int) -> Iterator[RawSample | Skipped]:
        """See SampleOrder."""
        passed = len(range(slot, start, workers)) * self.share.batch_size
        return islice(self._shuffled(epoch, slot, workers), passed, None)

    def _shuffled(self, epoch: int, slot: int, workers: int) -> Iterator[RawSample | Skipped]:
        generator = random.Random(digest(self._seed, epoch, self.share.rank, slot))  # noqa: S311 - an order, no secret
        buffer: list[RawSample | Skipped] = []
        for item in self.index.read(self._slot_keys(epoch, slot, workers), self.settings.on_error == "skip"):
            if len(buffer) < self.settings.shuffle_buffer:
                buffer.append(item)
                continue
            place = int(generator.random() * len(buffer))
            yield buffer[place]
            buffer[place] = item
        while buffer:
            place = int(generator.random() * len(buffer))
            buffer[place], buffer[-1] = buffer[-1], buffer[place]
            yield buffer.pop()

    def identity(self) -> dict[str, int | str]:
        """See SampleOrder."""
        return {
            "index": self.index.hash,
            "samples": len(self.keys),
            "seed": self._seed,
            "ranks": self.share.world,
            "workers": self.settings.workers,
            "batch_size": self.share.batch_size,
            "shuffle_buffer": self.settings.shuffle_buffer,
        }

    @property
    def _seed(self) -> int:
        return self.settings.seed or 0

    def _slot_keys(self, epoch: int, slot: int, workers: int) -> Keys:
        share = self.share
        keys = epoch_keys(self.index, self.keys, self._seed, epoch)
        sizes = [len(range(worker, share.steps, workers)) * share.batch_size for worker in range(workers)]
        first = share.rank * share.steps * share.batch_size + sum(sizes[:slot])
        return keys[first : first + sizes[slot]]


@final
class HeldOrder(SampleOrder):
    """Samples that are read once, held as files, and shuffled as a whole in each epoch.

    For a few images out of a large set, which is then not read again. The order is a pure function of (seed, epoch),
    and the ranks share each global batch: so any number of ranks and workers trains on the same batches.

    Args:
        index: the training set.
        keys: which of them, ascending.
        settings: seed, behaviour on errors.
        share: of the rank.
    """

    def __init__(self, index: SetIndex, keys: Keys, settings: LoaderSettings, share: Share) -> None:
        self.index_hash, self.seed, self.share = index.hash, settings.seed or 0, share
        self.held = tuple(index.read(keys, settings.on_error == "skip"))

    def samples(self, epoch: int, slot: int, workers: int, start: int) -> Iterator[RawSample | Skipped]:
        """See SampleOrder."""
        positions = self.share.positions(len(self.held), self.seed, epoch, slot, workers, start)
        return (self.held[position] for position in positions.tolist())

    def identity(self) -> dict[str, int | str]:
        """See SampleOrder."""
        return self.share.identity(self.index_hash, len(self.held), self.seed)


@final
class FileOrder(SampleOrder):
    """All samples of a set of single files, shuffled as a whole in each epoch and read when they are needed.

    The order is that of `HeldOrder`, so any number of ranks and workers trains on the same batches.

    Args:
        index: the training set, with `random_access`.
        keys: which of them, ascending.
        settings: seed, behaviour on errors.
        share: of the rank.
    """

    def __init__(self, index: SetIndex, keys: Keys, settings: LoaderSettings, share: Share) -> None:
        self.index, self.keys, self.settings, self.share = index, keys, settings, share
        self.seed = settings.seed or 0

    def samples(self, epoch: int, slot: int, workers: int, start: int) -> Iterator[RawSample | Skipped]:
        """See SampleOrder."""
        positions = self.share.positions(len(self.keys), self.seed, epoch, slot, workers, start)
        return self.index.read(self.keys[positions], self.settings.on_error == "skip")

    def identity(self) -> dict[str, int | str]:
        """See SampleOrder."""
        return self.share.identity(self.index.hash, len(self.keys), self.seed)


def order_of(index: SetIndex, keys: Keys, settings: LoaderSettings, share: Share, hold: bool) -> SampleOrder:
    """Return the order in which a set is trained on; `hold` keeps its samples in memory."""
    kind = HeldOrder if hold else FileOrder if index.random_access else ShardOrder
    return kind(index, keys, settings, share)
