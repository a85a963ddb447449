"""Encoding a set into a feature store: each rank its share of the missing chunks, exactly once, resumable."""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from lightning.pytorch import Trainer
from PIL.Image import Image
from torch import Tensor

from mmood.encoders.base import AbstractEncoder, ImageTransform
from mmood.encoders.transforms import corrupted
from mmood.errors import MmoodError
from mmood.features.chunks import ChunkFolder, ChunkPlan
from mmood.features.store import (
    DTYPES,
    Dtype,
    Manifest,
    StoredFeatures,
    is_complete,
    open_set,
    store_identity,
    write_manifest,
)
from mmood.images.corruption import Corruption
from mmood.images.rgb import Exif
from mmood.loading.batch import Batch
from mmood.loading.loader import Decoder, EvalLoader
from mmood.loading.plan import bounds
from mmood.loading.settings import LoaderSettings
from mmood.loading.train import seeded
from mmood.output.console import Bar, progress_bar
from mmood.runs.locks import lock_or_refuse, wait_for_lock
from mmood.runs.signals import take_back
from mmood.scores.descriptors import LocalDescriptors
from mmood.shards.index import Keys, SetIndex

CHUNK = 1024
"""Images per chunk, about: what a worker of a killed run loses at most."""


@dataclass(frozen=True)
class Ranks:
    """The processes that encode together.

    Attributes:
        rank: of this process, in [0, world).
        world: number of processes.
        barrier: waits for all of them.
        autocast: the trainer's precision.
        precision: its name.
    """

    rank: int
    world: int
    barrier: Callable[[], object]
    autocast: Callable[[], AbstractContextManager[object]]
    precision: str

    @classmethod
    def of(cls, trainer: Trainer) -> Ranks:
        """Return the processes of a trainer."""
        return cls(
            trainer.global_rank,
            trainer.world_size,
            trainer.strategy.barrier,
            trainer.precision_plugin.forward_context,
            str(trainer.precision),
        )

    @classmethod
    def alone(
        cls,
        precision: str = "32-true",
        autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> Ranks:
        """Return this process as the only one; in full precision unless another is named together with its autocast."""
        return cls(0, 1, lambda: None, autocast, precision)


@dataclass(frozen=True)
class Encoding:
    """The encoder of a run, its ranks, and the folder of its temporary features.

    Attributes:
        encoder: in eval mode and on its device by the time that features are asked for.
        ranks: the processes that share the work.
        folder: for features of this run alone; nothing is left in it.
        trained: the run trains the encoder, so that features are those of a moment.
        quiet: show no progress.
    """

    encoder: AbstractEncoder
    ranks: Ranks
    folder: Path
    trained: bool = False
    quiet: bool = False


@dataclass(frozen=True)
class SeededByImage:
    """A random transform whose draws depend on a seed and the pixels alone, not on worker, rank or order."""

    transform: ImageTransform
    seed: int

    def __call__(self, image: Image) -> Tensor:
        """Return the transformed image."""
        with seeded(self.seed, zlib.crc32(image.tobytes())):
            return self.transform(image)


@dataclass(frozen=True)
class SetEncoder:
    """Makes stores with one encoder, whose weights stay as they are while this object lives.

    Attributes:
        encoder: the image tower, in eval mode and on its device.
        ranks: the processes that share the work.
        batch_size: images encoded at a time on a device.
        loader: workers that decode; a broken image ends the run whatever `on_error` says, since a store is exact.
        augment_seed: use the training transform with this seed; None for the eval transform.
        quiet: show no progress.
        exif: whether images are turned as their cameras noted.
        corruption: of the images; None for images as they are.
        descriptors: more to store of each image; None for features and embedding only.
    """

    encoder: AbstractEncoder
    ranks: Ranks
    batch_size: int
    loader: LoaderSettings
    augment_seed: int | None = None
    quiet: bool = False
    exif: Exif = "ignore"
    corruption: Corruption | None = None
    descriptors: LocalDescriptors | None = None

    def identity(self, index: SetIndex) -> dict[str, object]:
        """Return what the numbers of a store of this set depend on; the first call hashes the weights."""
        crop, precision = self.encoder.settings.crop, self.ranks.precision
        own = self._encoder_identity
        made = store_identity(index, own, precision, self.augment_seed, crop, self.exif, self.corruption)
        return made if self.descriptors is None else {**made, "descriptors": self.descriptors.identity()}

    @cached_property
    def _encoder_identity(self) -> dict[str, str | int | None]:
        return self.encoder.identity()

    def encode(self, index: SetIndex, folder: Path, dtype: Dtype = "fp32", chunk: int = CHUNK) -> StoredFeatures:
        """Return the store in `folder`, after making what is missing of it; every rank must call this.

        Raises:
            MmoodError: an image is broken, a feature is not finite (names set and key), or the folder cannot be
                written.
        """
        if index.count == 0:
            raise MmoodError(f"The set '{index.name}' has no images to encode.")
        plan = ChunkPlan(index.count, -(-chunk // self.batch_size) * self.batch_size, self.batch_size)
        chunks = ChunkFolder(folder, plan)
        with self._sole_writer(index, folder):
            # Now no other process completes it, so all ranks see the same.
            self.ranks.barrier()
            if not is_complete(folder):
                self._make(index, chunks, dtype)
                self.ranks.barrier()
                if self.ranks.rank == 0:
                    write_manifest(folder, self._manifest(index, chunks, dtype))
            if self.ranks.rank == 0:
                chunks.remove()
            self.ranks.barrier()
        return open_set(folder, index)

    def _sole_writer(self, index: SetIndex, folder: Path) -> AbstractContextManager[None]:
        """Return the lock of the first rank that keeps other processes out of an unfinished store."""
        if self.ranks.rank > 0 or is_complete(folder):
            return contextlib.nullcontext()
        path, what = folder.with_name(f".{folder.name}.lock"), f"encodes {index.name} into {folder}"
        if self.ranks.world == 1:
            return wait_for_lock(path, what)
        # The other ranks would wait in a collective, which has an end.
        return lock_or_refuse(path, what, "start again when it is done")

    def _manifest(self, index: SetIndex, chunks: ChunkFolder, dtype: Dtype) -> Manifest:
        names = self.encoder.settings
        encoder: dict[str, object] = {"name": names.name, "pretrained": names.pretrained}
        return Manifest(self.identity(index), dtype, index.count, self.batch_size, encoder, chunks.join())

    def _make(self, index: SetIndex, chunks: ChunkFolder, dtype: Dtype) -> None:
        if self.ranks.rank == 0:
            chunks.prepare()
        self.ranks.barrier()
        missing = chunks.missing()
        # No rank may write before all have seen the same list.
        self.ranks.barrier()
        own = _share(missing, self.ranks.rank, self.ranks.world)
        # Lightning takes the signals before it asks for the loaders that these features are for.
        take_back()
        with self._progress(index.name, chunks.plan, own) as bar, torch.inference_mode():
            for number, tensors in _by_chunk(self._encoded(index, chunks.plan, own), chunks.plan):
                chunks.write(number, _checked(tensors, dtype, index, chunks.plan.bounds(number)[0]))
                bar.advance(len(tensors["label"]))

    def _encoded(self, index: SetIndex, plan: ChunkPlan, own: list[int]) -> Iterator[tuple[int, dict[str, Tensor]]]:
        """Yield (first key, tensors) of every batch of the plan."""
        transform = self.encoder.transform(train=self.augment_seed is not None)
        if self.augment_seed is not None:
            transform = SeededByImage(transform, self.augment_seed)
        keyed = None if self.corruption is None else corrupted(transform, self.corruption)
        settings, decoder = replace(self.loader, on_error="raise"), Decoder(transform, index.classes, self.exif, keyed)
        loader = EvalLoader(index, _keys(plan, own), decoder, plan.batch_size, settings)
        device = next(self.encoder.parameters()).device
        # Cut and joined on the device: in host memory that would cost a GPU more time than the tower.
        for batch in _aligned((_with_images_on(device, batch) for batch in loader), plan):
            yield int(batch["key"][0]), self._tensors(batch)

    def _tensors(self, batch: Batch) -> dict[str, Tensor]:
        reads = self.descriptors and self.descriptors.reads
        with self.ranks.autocast():
            encoded = self.encoder.encode_image(batch["image"], reads == "patches", reads == "feature_map")
        tensors = {"features": encoded.features, "label": batch["label"]}
        if encoded.embedding is not None:
            tensors["embedding"] = encoded.embedding
        if self.descriptors is not None:
            tensors["descriptors"] = self.descriptors.of_encoded(encoded)
        return {name: tensor.cpu() for name, tensor in tensors.items()}

    def _progress(self, name: str, plan: ChunkPlan, own: list[int]) -> AbstractContextManager[Bar]:
        hidden = self.quiet or self.ranks.rank > 0
        share = f" (rank 0 of {self.ranks.world})" if self.ranks.world > 1 else ""
        return progress_bar(f"encoding {name}{share}", len(_keys(plan, own)), hidden)


def _share(chunks: list[int], number: int, of: int) -> list[int]:
    """Return the contiguous run of chunks that belongs to one of several ranks or workers."""
    start, stop = list(pairwise(bounds(len(chunks), of)))[number]
    return chunks[start:stop]


def _keys(plan: ChunkPlan, chunks: list[int]) -> Keys:
    runs = [np.arange(*plan.bounds(chunk), dtype=np.int64) for chunk in chunks]
    return np.concatenate([np.empty(0, dtype=np.int64), *runs])


def _with_images_on(device: torch.device, batch: Batch) -> Batch:
    return Batch(image=batch["image"].to(device, non_blocking=True), label=batch["label"], key=batch["key"])


def _aligned(batches: Iterable[Batch], plan: ChunkPlan) -> Iterator[Batch]:
    """Yield the images in the batches of the plan: those of the loader begin where the work of each worker begins."""
    pieces: dict[int, list[Batch]] = {}
    for batch in batches:
        numbers, counts = torch.unique_consecutive(batch["key"] // plan.batch_size, return_counts=True)
        stops = counts.cumsum(0).tolist()
        for number, stop, count in zip(numbers.tolist(), stops, counts.tolist(), strict=True):
            collected = pieces.setdefault(number, [])
            size = min(plan.batch_size, plan.count - number * plan.batch_size)
            collected.append(batch if count == size == len(batch["key"]) else _copied(batch, slice(stop - count, stop)))
            if sum(len(piece["key"]) for piece in collected) == size:
                yield _joined(pieces.pop(number))


def _copied(batch: Batch, rows: slice) -> Batch:
    """Return some images of a batch; a copy, since a loader may use the memory of its batch again."""
    return Batch(image=batch["image"][rows].clone(), label=batch["label"][rows].clone(), key=batch["key"][rows].clone())


def _joined(pieces: list[Batch]) -> Batch:
    """Return runs of images as one batch, in the order of their keys."""
    if len(pieces) == 1:
        return pieces[0]
    ordered = sorted(pieces, key=lambda piece: int(piece["key"][0]))
    return Batch(
        image=torch.cat([piece["image"] for piece in ordered]),
        label=torch.cat([piece["label"] for piece in ordered]),
        key=torch.cat([piece["key"] for piece in ordered]),
    )


def _by_chunk(
    batches: Iterator[tuple[int, dict[str, Tensor]]], plan: ChunkPlan
) -> Iterator[tuple[int, dict[str, Tensor]]]:
    """Yield every chunk when its last batch arrives; several are open, because the workers alternate."""
    open_chunks: dict[int, list[dict[str, Tensor]]] = {}
    for first, tensors in batches:
        chunk = first // plan.size
        collected = open_chunks.setdefault(chunk, [])
        collected.append(tensors)
        start, stop = plan.bounds(chunk)
        if sum(len(batch["label"]) for batch in collected) == stop - start:
            del open_chunks[chunk]
            yield chunk, {name: torch.cat([batch[name] for batch in collected]) for name in tensors}


def _checked(tensors: dict[str, Tensor], dtype: Dtype, index: SetIndex, first_key: int) -> dict[str, Tensor]:
    """Return the tensors in the type on disk, if every value in it is finite."""
    found = {"label": tensors["label"]}
    for name in tensors.keys() - {"label"}:
        found[name] = tensors[name].to(DTYPES[dtype])
        finite = found[name].isfinite().flatten(1).all(dim=1)
        if not finite.all():
            key = first_key + int(finite.int().argmin())
            overflow = bool(tensors[name].isfinite().all())
            raise MmoodError(
                f"The {name} of key {key} in the set '{index.name}' hold a value "
                + (f"beyond the range of {dtype}; store fp32 or bf16." if overflow else "that is not finite.")
            )
    return found
