"""The evaluation loader: every sample once, whole batches from the workers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from mmood.errors import ImageError, MmoodError
from mmood.images.rgb import Exif
from mmood.loading.batch import Batch
from mmood.loading.buffers import Buffers, Failure, WorkerBatch
from mmood.loading.decoding import SampleError, decode_image, decode_label
from mmood.loading.plan import batches_in, slots
from mmood.loading.settings import LoaderSettings
from mmood.runs.open_files import make_room
from mmood.runs.signals import starting_workers
from mmood.shards.index import Keys
from mmood.shards.reading import RawSample, Skipped
from mmood.shards.sources import SampleSource

if TYPE_CHECKING:  # spawned workers import this module, and the encoders would bring open_clip with them
    from mmood.encoders.base import ImageTransform

OOD_LABEL = -1


class Decoded(NamedTuple):
    """One sample ready for a batch."""

    image: Tensor
    label: int
    key: int


class SampleDecoder(Protocol):
    """What turns samples into tensors of one shape; picklable, so that workers can be started in any way."""

    def __call__(self, sample: RawSample) -> Decoded:
        """Return the decoded sample; SampleError if it cannot be used."""

    def empty_image(self) -> Tensor:
        """Return a (0, ...) float32 batch of what a sample becomes."""


@dataclass(frozen=True)
class Decoder:
    """Turns samples into tensors.

    Attributes:
        transform: RGB image -> (3, H, W) float32, or (V, 3, H, W) for V crops of it.
        classes: number of ID classes; None for OoD or unlabelled samples, whose label is -1 whatever `cls` says.
        exif: whether images are turned as their cameras noted.
        keyed: what transforms an image in the place of `transform`, from the image and its key; None for `transform`.
    """

    transform: ImageTransform
    classes: int | None
    exif: Exif = "ignore"
    keyed: Callable[[Image.Image, int], Tensor] | None = None

    def __call__(self, sample: RawSample) -> Decoded:
        """Return the decoded sample; SampleError if image or label are broken."""
        label = OOD_LABEL if self.classes is None else decode_label(sample, self.classes)
        image = decode_image(sample, self.exif)
        try:
            pixels = self.transform(image) if self.keyed is None else self.keyed(image, sample.key)
            return Decoded(pixels, label, sample.key)
        except ImageError as error:
            raise SampleError(sample, str(error)) from error

    def empty_image(self) -> Tensor:
        """Return a (0, 3, H, W) float32 batch of images, its size learnt by transforming a small dummy.

        Where the transform gives V crops of an image, it is (0, V, 3, H, W).
        """
        probe = self.transform(Image.new("RGB", (32, 32)))
        if probe.dtype != torch.float32 or probe.ndim < 3 or probe.shape[-3] != 3:
            raise MmoodError(
                f"The image transform gives {tuple(probe.shape)} of {probe.dtype}, but (3, H, W) of float32 is needed."
            )
        return torch.empty((0, *probe.shape))


def collate(items: Iterable[Decoded | Skipped], images: Tensor, report_skipped: bool) -> Batch:
    """Return the batch of the items, in their order, its images written into `images`; skipped ones leave it smaller.

    Each image is copied to its place as it comes: kept together until the end, they would leave the caches first.
    """
    labels: list[int] = []
    keys: list[int] = []
    skipped: list[Skipped] = []
    for item in items:
        if isinstance(item, Skipped):
            skipped.append(item)
            continue
        if item.image.shape != images.shape[1:]:
            raise MmoodError(
                f"The image transform gives {tuple(item.image.shape)} for key {item.key} and {tuple(images.shape[1:])} "
                "for others; all images of a batch must have the same size."
            )
        images[len(keys)] = item.image
        labels.append(item.label)
        keys.append(item.key)
    batch: Batch = {
        "image": images[: len(keys)],
        "label": torch.tensor(labels, dtype=torch.int64),
        "key": torch.tensor(keys, dtype=torch.int64),
    }
    if report_skipped:
        batch["skipped"] = skipped
    return batch


def decode_or_skip(decoder: SampleDecoder, item: RawSample | Skipped, skip: bool) -> Decoded | Skipped:
    """Return the decoded sample; under `skip`, a broken one becomes the record of it."""
    if isinstance(item, Skipped):
        return item
    try:
        return decoder(item)
    except SampleError as error:
        if not skip:
            raise
        return Skipped(item.key, item.shard, item.name, error.reason)


class EvalShards(IterableDataset[WorkerBatch | Failure]):
    """The batches of one rank, cut over its workers.

    A batch stands for `batch_size` keys. Skipped samples leave it smaller and never move others into it, so number
    and content of the batches are known before anything is read.
    """

    def __init__(
        self,
        source: SampleSource,
        work: tuple[Keys, ...],
        decoder: SampleDecoder,
        batch_size: int,
        skip: bool,
        buffers: Buffers,
    ) -> None:
        self.source = source
        self.work = work
        self.decoder = decoder
        self.batch_size = batch_size
        self.skip = skip
        self.buffers = buffers
        self.empty_image = decoder.empty_image()

    def __iter__(self) -> Iterator[WorkerBatch | Failure]:
        worker = get_worker_info()
        number = 0 if worker is None else worker.id
        if worker is not None:
            self.buffers.start(number)
        try:
            if number == 0 and not any(len(keys) for keys in self.work):
                yield self._worker_batch(iter(()), 0)
            yield from self._batches(self.work[number])
        except MmoodError as error:
            yield Failure(str(error))

    def _batches(self, keys: Keys) -> Iterator[WorkerBatch]:
        samples = self.source.read(keys, self.skip)
        for start in range(0, len(keys), self.batch_size):
            size = min(self.batch_size, len(keys) - start)
            packed = self._worker_batch(islice(samples, size), size)
            if start + self.batch_size >= len(keys):
                # One step past the last sample the source checks the shard's end: before the last batch leaves,
                # because a consumer that knows the number of batches never asks for more.
                next(samples, None)
            yield packed

    def _worker_batch(self, samples: Iterator[RawSample | Skipped], size: int) -> WorkerBatch:
        images, buffer = self.buffers.take((size, *self.empty_image.shape[1:]))
        chunk = (decode_or_skip(self.decoder, sample, self.skip) for sample in samples)
        return WorkerBatch(collate(chunk, images, self.skip), buffer)


class EvalLoader:
    """Yields every sample of a set exactly once over all ranks; each rank gets a batch, of size 0 if need be.

    The order of the batches is fixed: the workers take turns. Broken data raises MmoodError here in the main process
    with shard, key and reason; under `on_error: skip` it is left out and listed in `batch["skipped"]`.

    Args:
        source: where the samples are.
        keys: which of them, ascending.
        decoder: transform and number of classes.
        batch_size: samples per batch.
        settings: workers and behaviour on errors.
        rank: this process's rank in [0, world).
        world: number of ranks.
        persistent: keep the workers from pass to pass; for loaders that are read often.
    """

    def __init__(
        self,
        source: SampleSource,
        keys: Keys,
        decoder: SampleDecoder,
        batch_size: int,
        settings: LoaderSettings,
        rank: int = 0,
        world: int = 1,
        persistent: bool = False,
    ) -> None:
        if len(keys) <= world:
            # There is nothing to share: starting a worker costs more than decoding an image.
            settings = replace(settings, workers=0)
        work = slots(keys, rank, world, max(1, settings.workers))
        self._length = batches_in([len(slot) for slot in work], batch_size)
        self._buffers = Buffers(settings.workers, settings.prefetch)
        shards = EvalShards(source, work, decoder, batch_size, settings.on_error == "skip", self._buffers)
        self._batches = worker_loader(shards, settings, persistent and settings.workers > 0)

    def __len__(self) -> int:
        """Return the number of batches of this rank."""
        return self._length

    def __iter__(self) -> Iterator[Batch]:
        yield from self._buffers.unpack(started(self._batches))


def worker_loader(
    dataset: IterableDataset[WorkerBatch | Failure], settings: LoaderSettings, persistent: bool
) -> DataLoader[WorkerBatch | Failure]:
    """Return torch's loader around a dataset that yields whole batches."""
    parallel = settings.workers > 0
    return DataLoader(
        dataset,
        batch_size=None,
        num_workers=settings.workers,
        collate_fn=_unchanged,  # the dataset collates
        pin_memory=torch.cuda.is_available(),
        multiprocessing_context=settings.start_method if parallel else None,
        prefetch_factor=settings.prefetch if parallel else None,
        persistent_workers=persistent,
        # Without one of its own, each pass would draw a number from the global generator.
        generator=torch.Generator().manual_seed(settings.seed or 0),
    )


def started(batches: DataLoader[WorkerBatch | Failure]) -> Iterator[WorkerBatch | Failure]:
    """Return an iterator over a pass, its workers started; MmoodError if too few files may be open."""
    make_room(batches.num_workers, batches.prefetch_factor or 0)
    context = batches.multiprocessing_context
    with starting_workers(None if context is None else context.get_start_method()):
        return iter(batches)


def _unchanged(batch: Any) -> Any:
    return batch
