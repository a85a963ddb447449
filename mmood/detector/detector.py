"""The detector itself: images to decisions, with a threshold that means something."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeAlias, final, overload

import numpy as np
from jaxtyping import Float32

from mmood.detector.calibration import (
    Calibration,
    CalibrationEmbeddings,
    calibrate,
    calibration_scores,
    read_embeddings,
)
from mmood.detector.decisions import Decision
from mmood.detector.manifest import Manifest, check_files, read_manifest, shortest
from mmood.detector.pictures import Picture
from mmood.detector.scorer import Prepared, Scored, Scorer, batched, prepared
from mmood.errors import ImageError, MmoodError
from mmood.shards.walk import find_images

if TYPE_CHECKING:
    from mmood.scores.base import AbstractScore

Pictures: TypeAlias = list[Picture] | tuple[Picture, ...]
BATCH = 32
_NOT_FINITE = "its score is not a finite number"


@final
class Detector:
    """Decides whether images belong to the ID classes.

    It is immutable and holds no state of what it has seen: threads may share it, and the decision on an image depends
    on no other image (up to the rounding of a tower that works on another batch size).

    Args:
        manifest: what the detector is.
        scorer: what computes its scores.
        embeddings: of the calibration images; None before `calibrated`.
    """

    def __init__(self, manifest: Manifest, scorer: Scorer, embeddings: CalibrationEmbeddings | None = None) -> None:
        self.manifest = manifest
        self.scorer = scorer
        self.embeddings = embeddings

    @classmethod
    def load(cls, folder: str | Path, device: str | None = None) -> Self:
        """Return the detector in a folder that `mmood calibrate` or `mmood export` wrote.

        One of `mmood export` runs on onnxruntime: torch is not imported. Nothing in the folder is executed or
        unpickled.

        Args:
            folder: the detector folder.
            device: of torch, such as `cuda`; None for a GPU if there is one. A detector of `mmood export` runs on the
                CPU.

        Raises:
            MmoodError: it is no detector, is damaged, belongs to another version, or its tower is not there.
        """
        folder = Path(folder)
        manifest = read_manifest(folder)
        check_files(folder, manifest)
        if manifest.backend == "onnx":
            from mmood.detector.backends.onnx_scorer import load_onnx_scorer

            return cls(manifest, load_onnx_scorer(folder, manifest), read_embeddings(folder))
        from mmood.detector.backends.torch_folder import load_torch_scorer

        return cls(manifest, load_torch_scorer(folder, manifest, device), read_embeddings(folder))

    @classmethod
    def from_names(
        cls,
        class_names: Sequence[str],
        model: str,
        score: str | AbstractScore,
        prompts: str | list[str] = "a photo of a {}",
        device: str | None = None,
    ) -> Self:
        """Return a zero-shot detector, to be calibrated on ID images: `from_names(...).calibrated(images)`.

        Args:
            class_names: the ID classes.
            model: a vision-language model, such as `ViT-B-16/openai`.
            score: a score that needs no training images, or the name of its class in any spelling (`mcm`, `NegLabel`).
            prompts: templates of the class names.
            device: of torch; None for a GPU if there is one.

        Raises:
            MmoodError: there is no such model or score, or the score is the same for every image with these classes.
        """
        from mmood.detector.backends.from_module import detector_from_names

        return cls(*detector_from_names(class_names, model, score, prompts, device))

    @property
    def class_names(self) -> tuple[str, ...]:
        """The ID classes."""
        return self.manifest.class_names

    @property
    def calibration(self) -> Calibration:
        """Threshold and p-values; MmoodError before `calibrated`."""
        if self.manifest.calibration is None:
            raise MmoodError("The detector has no threshold yet; give it ID images: detector.calibrated(images).")
        return self.manifest.calibration

    @overload
    def __call__(self, images: Picture, batch_size: int = BATCH) -> Decision: ...

    @overload
    def __call__(self, images: Pictures, batch_size: int = BATCH) -> list[Decision]: ...

    def __call__(self, images: Picture | Pictures, batch_size: int = BATCH) -> Decision | list[Decision]:
        """Return the decision on an image, or the decisions on several in their order.

        Args:
            images: a path, bytes, a PIL image, an array or tensor of uint8, or a list of these.
            batch_size: images that pass the tower together.
        """
        if isinstance(images, list | tuple):
            return list(self.stream(images, batch_size))
        return next(self.stream([images], 1))

    @property
    def embedding_width(self) -> int:
        """D, the width of an embedding."""
        assert self.embeddings is not None, "it is calibrated"
        return len(self.embeddings.mean)

    def stream(self, images: Iterable[Picture], batch_size: int = BATCH) -> Iterator[Decision]:
        """Yield the decision on each image, in their order, with one batch in memory at a time."""
        assert self.calibration
        for batch in batched(images, batch_size):
            yield from self.decide([self.prepared(picture) for picture in batch])[0]

    def prepared(self, picture: Picture) -> Prepared:
        """Return a picture as the tower reads it, or why it cannot be read."""
        return prepared(self.scorer, picture, self.manifest.exif)

    def decide(self, images: Sequence[Prepared]) -> tuple[list[Decision], Float32[np.ndarray, "images dim"] | None]:
        """Return the decisions on a batch, and the embeddings of the images that are not broken, None if all are.

        Args:
            images: what `prepared` returned for each image.
        """
        pixels = [entry for entry in images if not isinstance(entry, ImageError)]
        if not pixels:
            return [Decision("broken", reason=str(entry)) for entry in images], None
        scored = self.scorer.score(np.stack(pixels))
        found = iter(self._decisions(scored))
        decisions = [
            Decision("broken", reason=str(entry)) if isinstance(entry, ImageError) else next(found) for entry in images
        ]
        return decisions, scored.embedding[np.isfinite(scored.scores)]

    def calibrated(
        self, images: str | Path | Sequence[Picture], id_recall: float = 0.95, batch_size: int = BATCH
    ) -> Detector:
        """Return the detector with a threshold that accepts a new ID image with at least this probability.

        Args:
            images: ID images that nothing was trained on, as a folder or a list.
            id_recall: the share of ID images that is to be accepted.
            batch_size: images that pass the tower together.

        Raises:
            MmoodError: there are too few images for this recall, or one cannot be read.
        """
        return self.calibrated_on(_named(images), id_recall, batch_size)

    def calibrated_on(
        self, images: Iterable[tuple[str, Picture]], id_recall: float, batch_size: int = BATCH
    ) -> Detector:
        """Return what `calibrated` does, for images that come one by one, each with what an error calls it."""
        scores, embeddings = calibration_scores(self.scorer, images, self.manifest.exif, batch_size)
        calibration = calibrate(scores, id_recall)
        return Detector(replace(self.manifest, calibration=calibration), self.scorer, embeddings)

    def save(self, folder: str | Path, copy_weights: bool = True) -> None:
        """Write the detector into a new or empty folder.

        Args:
            folder: where to.
            copy_weights: put the weights of the tower inside; without, they are loaded by name and checked.

        Raises:
            MmoodError: the folder holds other files, the score cannot be written as tensors, or a tower that was
                trained would be named.
        """
        from mmood.detector.backends.torch_folder import save_detector
        from mmood.detector.backends.torch_scorer import TorchScorer

        if not isinstance(self.scorer, TorchScorer):
            raise MmoodError("A detector of `mmood export` is not written again; copy its folder.")
        assert self.calibration
        assert self.embeddings is not None, "they come with the calibration"
        save_detector(self.manifest, self.scorer, self.embeddings, Path(folder), copy_weights)

    def _decisions(self, scored: Scored) -> Iterator[Decision]:
        calibration, names, labels = self.calibration, self.class_names, self.manifest.negative_labels
        finite = np.isfinite(scored.scores)
        safe = np.where(finite, scored.scores, np.float32(0))
        accepted, p_values = calibration.accepts(safe), calibration.p_values(safe)
        classes, probability = scored.logits.argmax(axis=1), self.manifest.probability.of(scored.logits)
        for row in range(len(safe)):
            if not finite[row]:
                yield Decision("broken", reason=_NOT_FINITE)
                continue
            yield Decision(
                accepted=bool(accepted[row]),
                score=shortest(safe[row]),
                p_value=float(p_values[row]),
                class_name=names[int(classes[row])],
                probability=None if probability is None else float(probability[row]),
                negative_label=None if scored.negative is None else labels[int(scored.negative[row])],
            )


def _named(images: str | Path | Sequence[Picture]) -> Iterator[tuple[str, Picture]]:
    if isinstance(images, str | Path):
        folder = Path(images)
        if not folder.is_dir():
            raise MmoodError(f"There is no folder {folder} with ID images to calibrate on.")
        images = [folder / image.path for image in find_images(folder).images]
    for number, image in enumerate(images):
        yield str(image) if isinstance(image, str | Path) else f"number {number}", image
