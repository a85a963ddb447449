"""The training loader: shuffled, exactly reproducible, resumable in the middle of an epoch."""

from __future__ import annotations

import contextlib
import logging
import random
from collections.abc import Iterator
from itertools import islice

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from mmood.errors import MmoodError
from mmood.loading.batch import Batch
from mmood.loading.buffers import Buffers, Failure, WorkerBatch
from mmood.loading.loader import Decoded, SampleDecoder, collate, decode_or_skip, started, worker_loader
from mmood.loading.order import SampleOrder, Share, order_of
from mmood.loading.position import Position, TrainState
from mmood.loading.settings import LoaderSettings
from mmood.shards.hashes import digest
from mmood.shards.index import Keys, SetIndex
from mmood.shards.reading import RawSample, Skipped

_log = logging.getLogger(__name__)


@contextlib.contextmanager
def seeded(*numbers: int) -> Iterator[None]:
    """Seed the global generators of torch (CPU), Python and numpy by these numbers; afterwards they are as before.

    Image transforms draw from these three and take no generator of their own.
    """
    seed = digest(*numbers)
    before = torch.default_generator.get_state(), random.getstate(), np.random.get_state()  # noqa: NPY002
    torch.default_generator.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    try:
        yield
    finally:
        torch.default_generator.set_state(before[0])
        random.setstate(before[1])
        np.random.set_state(before[2])  # noqa: NPY002


class TrainShards(IterableDataset[WorkerBatch | Failure]):
    """The batches of one rank: its worker w yields those numbered w, w + W, w + 2W, ..."""

    def __init__(
        self, order: SampleOrder, steps: int, batch_size: int, decoder: SampleDecoder, settings: LoaderSettings
    ) -> None:
        self.order = order
        self.steps = steps
        self.batch_size = batch_size
        self.decoder = decoder
        self.settings = settings
        self.buffers = Buffers(settings.workers, settings.prefetch)
        with seeded(settings.seed or 0):
            self.empty_image = decoder.empty_image()
        # Epoch and first batch of the next pass, in shared memory: persistent workers read them at every pass.
        self.position = torch.zeros(2, dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call]

    def __iter__(self) -> Iterator[WorkerBatch | Failure]:
        worker = get_worker_info()
        number, workers = (0, 1) if worker is None else (worker.id, worker.num_workers)
        if worker is not None:
            self.buffers.start(number)
        epoch, start = self.position.tolist()
        # torch's loader asks worker 0 first, so after a resume the worker whose turn it is must be number 0.
        slot = (number + start) % workers
        try:
            yield from self._batches(epoch, start, slot, workers)
        except MmoodError as error:
            yield Failure(str(error))

    def _batches(self, epoch: int, start: int, slot: int, workers: int) -> Iterator[WorkerBatch]:
        skip = self.settings.on_error == "skip"
        steps = [step for step in range(slot, self.steps, workers) if step >= start]
        samples = self.order.samples(epoch, slot, workers, start)
        for step in steps:
            chunk = list(islice(samples, self.batch_size))
            images, buffer = self.buffers.take((len(chunk), *self.empty_image.shape[1:]))
            batch = collate((self._augmented(item, epoch, skip) for item in chunk), images, skip)
            if len(batch["key"]) == 0:
                raise MmoodError(f"No sample of training batch {step} could be read: {chunk[0]}.")
            yield WorkerBatch(batch, buffer)

    def _augmented(self, item: RawSample | Skipped, epoch: int, skip: bool) -> Decoded | Skipped:
        with seeded(self.settings.seed or 0, epoch, item.key):
            return decode_or_skip(self.decoder, item, skip)


class TrainLoader:
    """Yields the batches of one rank, the same number on every rank.

    The order is a pure function of (seed, epoch, ranks, workers), with `hold` or from single files of (seed, epoch);
    augmentation is one of (seed, epoch, key). What does not fill a batch on every rank is left out: fewer samples than
    one global batch, other ones in each epoch.

    Lightning sets the epoch through `sampler`, and saves and loads the state.

    Args:
        index: the training set.
        keys: which samples, ascending.
        decoder: training transform and number of classes.
        batch_size: samples per batch and rank.
        settings: workers, seed, buffer, behaviour on errors.
        rank: this process's rank in [0, world).
        world: number of ranks.
        hold: read the samples once and hold their files in memory, for a few out of a large set.

    Raises:
        MmoodError: there are fewer samples than one global batch.
    """

    def __init__(
        self,
        index: SetIndex,
        keys: Keys,
        decoder: SampleDecoder,
        batch_size: int,
        settings: LoaderSettings,
        rank: int = 0,
        world: int = 1,
        hold: bool = False,
    ) -> None:
        self._steps = len(keys) // (world * batch_size)
        if self._steps == 0:
            raise MmoodError(
                f"The training set '{index.name}' has {len(keys)} samples, fewer than one batch of {batch_size} on "
                f"each of {world} devices; lower `data.batch_size`."
            )
        if rank == 0 and (left_out := len(keys) - self._steps * batch_size * world):
            _log.info("%s: %d of %d samples do not fill a batch and are skipped, different ones in each epoch.",
                      index.name, left_out, len(keys))  # fmt: skip
        share = Share(self._steps, batch_size, rank, world)
        order = order_of(index, keys, settings, share, hold)
        self._shards = TrainShards(order, self._steps, batch_size, decoder, settings)
        self._batches = worker_loader(self._shards, settings, settings.persistent and settings.workers > 0)
        self.sampler = Position(self._steps, order.identity())

    def __len__(self) -> int:
        """Return the number of steps of a whole epoch."""
        return self._steps

    def __iter__(self) -> Iterator[Batch]:
        start = self.sampler.begin()
        self._shards.position.copy_(torch.tensor([self.sampler.epoch, start]))
        if start >= self._steps:
            return
        for batch in self._shards.buffers.unpack(started(self._batches)):
            self.sampler.advance()
            yield batch

    def state_dict(self) -> TrainState:
        """Return the position after the last batch that was consumed; the same on every rank."""
        return self.sampler.state()

    def load_state_dict(self, state: TrainState) -> None:
        """Go on from a saved position; MmoodError if its order was made with other settings."""
        self.sampler.load(state)
