"""Shared memory for batches that is used again.

Fresh shared pages for every batch cost a worker a tenth of its time with images at native size. So each worker keeps a
few buffers; the main process marks one as free when no tensor refers to it any more, and only then is it written again.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from mmood.errors import MmoodError
from mmood.loading.batch import Batch

_NO_BUFFER = -1


class Failure(NamedTuple):
    """An error on its way out of a worker; torch would wrap an exception's message into a traceback."""

    message: str


class WorkerBatch(NamedTuple):
    """A batch on its way out of a worker, and the buffer that its images are in (-1: in none)."""

    batch: Batch
    buffer: int


class Buffers:
    """The buffers of all workers of a loader.

    Each process sees its own side: a worker owns `per_worker` buffers and writes into free ones, the main process frees
    them. A worker that finds none free (the consumer keeps its batches) takes fresh memory, so nothing ever waits.

    Args:
        workers: worker processes; 0 for none, and then no buffers.
        prefetch: batches that a worker prepares in advance.
    """

    def __init__(self, workers: int, prefetch: int) -> None:
        # Besides those prepared: one being written, and two that the consumer has in hand.
        self.per_worker = prefetch + 3
        self.free = torch.ones(max(1, workers) * self.per_worker, dtype=torch.uint8).share_memory_()  # type: ignore[no-untyped-call]
        self._first = _NO_BUFFER
        self._own: list[Tensor | None] = [None] * self.per_worker

    def start(self, worker: int) -> None:
        """Begin a pass in a worker: what is still out stays with who holds it, and another takes its place."""
        self._first = worker * self.per_worker
        free = self.free[self._first : self._first + self.per_worker]
        self._own = [own if back else None for own, back in zip(self._own, free, strict=True)]
        free[:] = 1

    def take(self, shape: tuple[int, ...]) -> tuple[Tensor, int]:
        """Return an uninitialised float32 tensor and the number of its buffer.

        Args:
            shape: of the batch.
        """
        if self._first == _NO_BUFFER or 0 in shape:
            return torch.empty(shape, dtype=torch.float32), _NO_BUFFER
        for place in range(self.per_worker):
            if self.free[self._first + place]:
                own = self._own[place]
                if own is None or len(own) < shape[0] or own.shape[1:] != shape[1:]:
                    own = self._own[place] = _shared(shape)
                self.free[self._first + place] = 0
                return own[: shape[0]], self._first + place
        return _shared(shape), _NO_BUFFER

    def unpack(self, received: Iterable[WorkerBatch | Failure]) -> Iterator[Batch]:
        """Yield the batches of one pass in the main process; a Failure is raised as the MmoodError that it was."""
        lent: list[tuple[StorageWeakRef, int]] = []
        for packed in received:
            if isinstance(packed, Failure):
                raise MmoodError(packed.message)
            batch, buffer = packed
            del packed  # whoever holds the batch keeps its buffer
            if buffer != _NO_BUFFER and batch["image"].is_pinned():
                self.free[buffer] = 1  # pinning has copied it
            elif buffer != _NO_BUFFER:
                lent.append((StorageWeakRef(batch["image"].untyped_storage()), buffer))  # type: ignore[no-untyped-call]
            yield batch
            del batch
            for storage, returned in lent:
                if storage.expired():  # type: ignore[no-untyped-call]
                    self.free[returned] = 1
            lent = [(storage, number) for storage, number in lent if not self.free[number]]


def _shared(shape: tuple[int, ...]) -> Tensor:
    # torch's default_collate does the same; moving a finished batch into shared memory would copy it once more.
    storage = torch.UntypedStorage._new_shared(4 * math.prod(shape), device="cpu")  # type: ignore[no-untyped-call]
    return torch.empty(0, dtype=torch.float32).set_(storage).view(shape)
