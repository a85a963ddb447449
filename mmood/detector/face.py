"""What every detector offers: pictures to decisions, one batch at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Self, TypeAlias, final, overload

from mmood.detector.calibration import Calibration, CalibrationEmbeddings, ties_at_threshold
from mmood.detector.decisions import Decision
from mmood.detector.judging import Judged
from mmood.detector.manifest import Manifest
from mmood.detector.pictures import Picture
from mmood.detector.scorer import Prepared, Scorer, batched, prepared
from mmood.errors import MmoodError
from mmood.output.printing import complain
from mmood.shards.walk import find_images

Pictures: TypeAlias = list[Picture] | tuple[Picture, ...]
BATCH = 32


class AbstractDecider(ABC):
    """Decides whether images belong to the ID classes.

    Args:
        manifest: what the detector is.
        scorer: what computes its scores.
        embeddings: of the calibration images; None before `calibrated`.
    """

    def __init__(self, manifest: Manifest, scorer: Scorer, embeddings: CalibrationEmbeddings | None) -> None:
        self.manifest = manifest
        self.scorer = scorer
        self.embeddings = embeddings

    @property
    @abstractmethod
    def calibration(self) -> Calibration:
        """Threshold and p-values; MmoodError before `calibrated`."""

    @abstractmethod
    def decide(self, images: Sequence[Prepared]) -> Judged:
        """Return the decisions on a batch, and the embeddings of the images that are not broken, None if all are.

        Args:
            images: what `prepared` returned for each image.
        """

    @abstractmethod
    def calibrated_on(self, images: Iterable[tuple[str, Picture]], id_recall: float, batch_size: int = BATCH) -> Self:
        """Return what `calibrated` does, for images that come one by one, each with what an error calls it."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """The ID classes."""
        return self.manifest.class_names

    @property
    def embedding_width(self) -> int:
        """D, the width of an embedding."""
        assert self.embeddings is not None, "it is calibrated"
        return len(self.embeddings.mean)

    @overload
    def __call__(self, images: Picture, batch_size: int = BATCH) -> Decision: ...

    @overload
    def __call__(self, images: Pictures, batch_size: int = BATCH) -> list[Decision]: ...

    @final
    def __call__(self, images: Picture | Pictures, batch_size: int = BATCH) -> Decision | list[Decision]:
        """Return the decision on an image, or the decisions on several in their order.

        Args:
            images: a path, bytes, a PIL image, an array or tensor of uint8, or a list of these.
            batch_size: images that pass the tower together.
        """
        if isinstance(images, list | tuple):
            return list(self.stream(images, batch_size))
        return next(self.stream([images], 1))

    @final
    def stream(self, images: Iterable[Picture], batch_size: int = BATCH) -> Iterator[Decision]:
        """Yield the decision on each image, in their order, with one batch in memory at a time."""
        assert self.calibration
        for batch in batched(images, batch_size):
            yield from self.decide([self.prepared(picture) for picture in batch])[0]

    @final
    def prepared(self, picture: Picture) -> Prepared:
        """Return a picture as the tower reads it, or why it cannot be read."""
        return prepared(self.scorer, picture, self.manifest.exif)

    @final
    def calibrated(
        self, images: str | Path | Sequence[Picture], id_recall: float = 0.95, batch_size: int = BATCH
    ) -> Self:
        """Return the detector with a threshold that accepts a new ID image with at least this probability.

        Says so on standard error where so many images share the score of the threshold that it accepts more.

        Args:
            images: ID images that nothing was trained on, as a folder or a list.
            id_recall: the share of ID images that is to be accepted.
            batch_size: images that pass the tower together.

        Raises:
            MmoodError: there are too few images for this recall, or one cannot be read.
        """
        detector = self.calibrated_on(_named(images), id_recall, batch_size)
        if (ties := ties_at_threshold(detector.calibration)) is not None:
            complain(ties)
        return detector


def _named(images: str | Path | Sequence[Picture]) -> Iterator[tuple[str, Picture]]:
    if isinstance(images, str | Path):
        folder = Path(images)
        if not folder.is_dir():
            raise MmoodError(f"There is no folder {folder} with ID images to calibrate on.")
        images = [folder / image.path for image in find_images(folder).images]
    for number, image in enumerate(images):
        yield str(image) if isinstance(image, str | Path) else f"number {number}", image
