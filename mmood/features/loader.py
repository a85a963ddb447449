"""Loaders that read stored features in place of images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mmood.errors import MmoodError
from mmood.features.store import StoredFeatures
from mmood.loading.batch import Batch
from mmood.loading.few_shot import epoch_order
from mmood.loading.plan import bounds
from mmood.loading.position import Position, TrainState
from mmood.shards.index import Keys

LEAST_ROWS = 1024
"""Samples per batch under evaluation, at least: a batch of features is small beside one of images."""


class FeatureLoader:
    """Yields the stored features of a set exactly once over all ranks; each rank gets a batch, of size 0 if need be.

    Args:
        store: features, embeddings and labels of the whole set.
        keys: which rows, ascending.
        labelled: whether the labels are ID classes; otherwise they become -1.
        batch_size: samples per batch; at least 1024 are taken.
        rank: this process's rank in [0, world).
        world: number of ranks.
    """

    def __init__(
        self, store: StoredFeatures, keys: Keys, labelled: bool, batch_size: int, rank: int = 0, world: int = 1
    ) -> None:
        self.store = store
        start, stop = list(pairwise(bounds(len(keys), world)))[rank]
        self.keys = torch.from_numpy(keys[start:stop])
        self.labelled = labelled
        self.batch_size = max(batch_size, LEAST_ROWS)

    def __len__(self) -> int:
        """Return the number of batches of this rank."""
        return max(1, -(-len(self.keys) // self.batch_size))

    def __iter__(self) -> Iterator[Batch]:
        for keys in torch.split(self.keys, self.batch_size) if len(self.keys) else [self.keys]:
            yield self._batch(keys)

    def _batch(self, keys: Tensor) -> Batch:
        rows = _rows(keys)
        label = self.store.label[rows] if self.labelled else torch.full_like(keys, -1)
        batch = Batch(features=self.store.features[rows], label=label, key=keys)
        if self.store.embedding is not None:
            batch["embedding"] = self.store.embedding[rows]
        return batch


def _rows(keys: Tensor) -> Tensor | slice:
    """Return what indexes these ascending rows: a slice, which copies nothing, where none is left out."""
    if len(keys) == 0 or int(keys[-1] - keys[0]) + 1 != len(keys):
        return keys
    return slice(int(keys[0]), int(keys[-1]) + 1)


class Rows(Protocol):
    """What is trained on in place of images."""

    @property
    def keys(self) -> Int[Tensor, " rows"]:
        """The keys of the images."""

    @property
    def batch_size(self) -> int:
        """Rows per step, over all ranks together."""

    @property
    def whole_batches(self) -> bool:
        """Whether what does not fill a batch is left out, other rows in each epoch."""

    def batch(self, positions: Int[Tensor, " batch"], epoch: int) -> Batch:
        """Return the rows at these positions in `keys`, as an epoch reads them."""


@dataclass(frozen=True)
class TrainingRows:
    """Stored features to train on.

    Attributes:
        features: (N, F) of the whole set, memory-mapped; None if no head reads them.
        keys: (n,) int64 rows of it that are trained on.
        targets: (n,) int64 class of each.
        batch_size: rows per step, over all ranks together.
        embedding: (N, D) likewise.
        whole_batches: leave out what does not fill a batch.
    """

    features: Float[Tensor, "images features"] | None
    keys: Int[Tensor, " rows"]
    targets: Int[Tensor, " rows"]
    batch_size: int
    embedding: Float[Tensor, "images dim"] | None = None
    whole_batches: bool = False

    def batch(self, positions: Int[Tensor, " batch"], epoch: int) -> Batch:
        """Return the rows at these positions in `keys`, the same in every epoch."""
        # Ascending rows are read from the disk in one direction.
        positions = positions.sort().values
        keys = self.keys[positions]
        batch = Batch(label=self.targets[positions], key=keys)
        if self.features is not None:
            batch["features"] = self.features[keys]
        if self.embedding is not None:
            batch["embedding"] = self.embedding[keys]
        return batch


class FeatureTrainLoader:
    """Yields shuffled batches of stored features, the same number and sizes on every rank.

    The order is a pure function of (seed, epoch); ranks share each global batch. Unless the rows ask for whole batches,
    the last batch of an epoch may be smaller; what does not divide by the number of ranks is left out, other samples in
    each epoch.

    Lightning sets the epoch through `sampler`, and saves and loads the state.

    Args:
        rows: what to train on.
        seed: of the order.
        rank: this process's rank in [0, world).
        world: number of ranks.

    Raises:
        MmoodError: there are fewer rows than ranks.
    """

    def __init__(self, rows: Rows, seed: int, rank: int = 0, world: int = 1) -> None:
        if len(rows.keys) < world:
            raise MmoodError(f"There are {len(rows.keys)} images to train on, fewer than the {world} devices.")
        self.rows = rows
        most = min(rows.batch_size, len(rows.keys)) if rows.whole_batches else rows.batch_size
        self.batch_size = max(1, most // world)
        self.seed = seed
        self.rank = rank
        self.world = world
        order = {"samples": len(rows.keys), "seed": seed, "global_batch": self.batch_size * world}
        own = len(rows.keys) // world
        self.sampler = Position(own // self.batch_size if rows.whole_batches else -(-own // self.batch_size), order)

    def __len__(self) -> int:
        """Return the number of steps of a whole epoch."""
        return self.sampler.steps

    def __iter__(self) -> Iterator[Batch]:
        for batch in _ahead(self._batch, self._order()[self.sampler.begin() :]):
            self.sampler.advance()
            yield batch

    def state_dict(self) -> TrainState:
        """Return the position after the last batch that was consumed; the same on every rank."""
        return self.sampler.state()

    def load_state_dict(self, state: TrainState) -> None:
        """Go on from a saved position; MmoodError if its order was made with other settings."""
        self.sampler.load(state)

    def _order(self) -> list[Tensor]:
        """Return the positions in `rows.keys` of each batch of this epoch and rank."""
        order = epoch_order(len(self.rows.keys), self.seed, self.sampler.epoch)
        size = self.batch_size if self.rows.whole_batches else 1
        whole = order[: len(order) // (size * self.world) * size * self.world]
        batches = torch.split(whole, self.batch_size * self.world)
        return [batch.reshape(self.world, -1)[self.rank] for batch in batches]

    def _batch(self, positions: Tensor) -> Batch:
        return self.rows.batch(positions, self.sampler.epoch)


def _ahead(make: Callable[[Tensor], Batch], wanted: Iterable[Tensor]) -> Iterator[Batch]:
    """Yield make(item) of each item; the next is made in a thread while the last is worked on."""
    with ThreadPoolExecutor(1) as pool:
        pending = None
        for future in chain((pool.submit(make, item) for item in wanted), [None]):
            if pending is not None:
                yield pending.result()
            pending = future
