"""The detector itself: images to decisions, with a threshold that means something."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Self, final

from mmood.detector.calibration import (
    Calibration,
    CalibrationEmbeddings,
    calibrate,
    calibration_scores,
    read_embeddings,
)
from mmood.detector.face import BATCH, AbstractDecider
from mmood.detector.judging import Judged, all_broken, judged, readable
from mmood.detector.manifest import Manifest, check_files, read_manifest
from mmood.detector.maps import patch_map
from mmood.detector.pictures import Picture
from mmood.detector.scorer import Prepared, Scorer
from mmood.errors import MmoodError

if TYPE_CHECKING:
    from PIL.Image import Image

    from mmood.scores.base import AbstractScore


@final
class Detector(AbstractDecider):
    """Decides whether images belong to the ID classes.

    It is immutable and holds no state of what it has seen: threads may share it, and the decision on an image depends
    on no other image (up to the rounding of a tower that works on another batch size).

    Args:
        manifest: what the detector is.
        scorer: what computes its scores.
        embeddings: of the calibration images; None before `calibrated`.
    """

    def __init__(self, manifest: Manifest, scorer: Scorer, embeddings: CalibrationEmbeddings | None = None) -> None:
        super().__init__(manifest, scorer, embeddings)

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
            MmoodError: it is not a detector, is damaged, belongs to another version, or its tower is not there.
        """
        folder = Path(folder)
        manifest = read_manifest(folder)
        if manifest.stream is not None:
            raise MmoodError(
                f"{folder} decides with the test-time score '{manifest.score.name}', which learns from the images that "
                "it sees, in their order; `mmood detect` and StreamDetector.load run it."
            )
        check_files(folder, manifest)
        if manifest.backend == "onnx":
            from mmood.detector.backends.onnx_scorer import load_onnx_scorer

            return cls(manifest, load_onnx_scorer(folder, manifest), read_embeddings(folder))
        if manifest.dense is not None:
            from mmood.detector.backends.dense_folder import load_dense_scorer

            return cls(manifest, load_dense_scorer(folder, manifest, device), read_embeddings(folder))
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
    def calibration(self) -> Calibration:
        """Threshold and p-values; MmoodError before `calibrated`."""
        if self.manifest.calibration is None:
            raise MmoodError("The detector has no threshold yet; give it ID images: detector.calibrated(images).")
        return self.manifest.calibration

    def decide(self, images: Sequence[Prepared]) -> Judged:
        """Return the decisions on a batch, and the embeddings of the images that are not broken, None if all are.

        Args:
            images: what `prepared` returned for each image.
        """
        pixels = readable(images)
        if pixels is None:
            return all_broken(images)
        return judged(images, self.scorer.score(pixels), self.calibration, self.manifest)

    def calibrated_on(self, images: Iterable[tuple[str, Picture]], id_recall: float, batch_size: int = BATCH) -> Self:
        """Return what `calibrated` does, for images that come one by one, each with what an error calls it."""
        scores, embeddings, patch_range = calibration_scores(self.scorer, images, self.manifest.exif, batch_size)
        calibration = calibrate(scores, id_recall)
        manifest = replace(self.manifest, calibration=calibration, patch_range=patch_range)
        return type(self)(manifest, self.scorer, embeddings)

    @property
    def has_map(self) -> bool:
        """Whether `patch_map` can show where in a picture the score comes from."""
        return self.manifest.patch_range is not None and self.manifest.preprocessing.shows_known_part()

    def patch_map(self, picture: Picture) -> Image:
        """Return a picture with the score of each patch laid over it, dark blue where it is low, yellow where high.

        The colours span the patches of the calibration images; what the tower does not see is darkened.

        Raises:
            MmoodError: the score has no map (GL-MCM, L-MCM and scores of pixels have), or the picture cannot be read
                (`ImageError`).
        """
        if not self.has_map:
            raise MmoodError(
                f"The score '{self.manifest.score.name}' of this detector has no map; GLMCM, LMCM and scores of pixels "
                "have one."
            )
        return patch_map(self.scorer, self.manifest, picture)

    def save(self, folder: str | Path, copy_weights: bool = True) -> None:
        """Write the detector into a new or empty folder.

        Args:
            folder: where to.
            copy_weights: put the weights of the tower inside; without, they are loaded by name and checked. A network
                that scores pixels is always inside.

        Raises:
            MmoodError: the folder holds other files, the score cannot be written as tensors, or a tower that was
                trained would be named.
        """
        from mmood.detector.backends.torch_folder import save_detector
        from mmood.detector.backends.torch_scorer import TorchScorer

        assert self.calibration
        assert self.embeddings is not None, "they come with the calibration"
        if self.manifest.dense is not None:
            from mmood.detector.backends.dense_folder import save_dense_detector
            from mmood.detector.backends.dense_scorer import DenseScorer

            assert isinstance(self.scorer, DenseScorer), "the manifest says so"
            save_dense_detector(self.manifest, self.scorer, self.embeddings, Path(folder))
            return
        if not isinstance(self.scorer, TorchScorer):
            raise MmoodError("A detector of `mmood export` is not written again; copy its folder.")
        save_detector(self.manifest, self.scorer, self.embeddings, Path(folder), copy_weights)
