"""From the settings of a test to a detector folder."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from lightning.pytorch import Callback, Trainer

from mmood.data.datamodule import OoDDataModule
from mmood.detector.backends.from_module import chosen_score, from_module, score_named, trained_tower
from mmood.detector.backends.from_settings import from_settings
from mmood.detector.backends.torch_folder import check_named
from mmood.detector.building.calibration_set import CalibrationSet, calibration_set
from mmood.detector.building.request import Request
from mmood.detector.calibration import Calibration, coverage_band, least_images, ties_at_threshold
from mmood.detector.detector import Detector
from mmood.detector.streams import StreamDetector
from mmood.errors import MmoodError
from mmood.modules.base import AbstractDetector

if TYPE_CHECKING:
    from mmood.dense.detector import AbstractDenseDetector

_NEW_IMAGES = 1000
_LEARNS = (
    "This is the threshold before the first image. The score learns from the images it decides on; before each batch, "
    "the calibration images are scored with the memory of that moment, so the threshold moves. The share of accepted "
    "ID images is promised all the same, for images that, like those of the calibration, were not in the stream before."
)


def calibrate_detector(arguments: Sequence[str], request: Request, checkpoint: str | None) -> list[str]:
    """Write the detector folder and return what there is to say of it, in lines.

    Args:
        arguments: settings as on the command line of `mmood test`.
        request: what kind of detector is wanted.
        checkpoint: a trained model.

    Raises:
        MmoodError: settings are wrong, the score cannot be shipped, or the ID images give no threshold.
    """
    module, data, trainer = from_settings(arguments, checkpoint, pixels=True)
    if isinstance(module, AbstractDetector):
        assert isinstance(data, OoDDataModule), "of the family of images"
        detector, images = _of_images(module, data, request, checkpoint)
    else:
        detector, images = _of_pixels(module, data, trainer, request, checkpoint)
    batch_size = data.batch_size
    detector = detector.calibrated_on(images.images(), request.id_recall, min(batch_size, 64))
    detector.save(request.out, request.copy_weights)
    learns = _LEARNS if isinstance(detector, StreamDetector) else None
    return _said(detector.calibration, detector.manifest.score.name, images, request.out, learns)


Uncalibrated = tuple[Detector | StreamDetector, CalibrationSet]
"""A detector without a threshold, and the images that give it one."""


def _of_images(module: AbstractDetector, data: OoDDataModule, request: Request, checkpoint: str | None) -> Uncalibrated:
    name = chosen_score(module, request.score)
    if not request.copy_weights:
        check_named(trained_tower(module))
    images = calibration_set(data, request.fraction)
    _check_number(len(images.keys), request.id_recall)
    module.fit_scores()
    banks: list[object] = [] if module.provider is None else list(module.provider.banks.values())
    provenance = {**_provenance(images, checkpoint), "banks": banks}
    shipped = from_module(module, name, data.exif or "apply", provenance)
    return Detector(*shipped) if shipped[0].stream is None else StreamDetector(*shipped), images


def _of_pixels(
    module: AbstractDenseDetector, data: object, trainer: Trainer, request: Request, checkpoint: str | None
) -> Uncalibrated:
    from mmood.dense.callback import DenseCallback
    from mmood.dense.data import DenseDataModule
    from mmood.detector.backends.dense_folder import from_dense_module, shippable
    from mmood.detector.building.dense_set import images_without_ood

    assert isinstance(data, DenseDataModule), "of the family of pixels"
    shippable(module)
    if checkpoint is None:
        raise MmoodError(f"A {type(module).__name__} has random weights without --ckpt_path; name its checkpoint.")
    name = score_named(request.score, dict(module.named_scores()))
    check_named(not request.copy_weights)
    images = images_without_ood(data, request.fraction)
    _check_number(len(images.keys), request.id_recall)
    module.training_images = None if data.train is None else data.training_images
    module.fit_scores()
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    (evaluation,) = (callback for callback in callbacks if isinstance(callback, DenseCallback))
    settings = (data.image_size, evaluation.pooling, evaluation.pooled_share)
    return Detector(*from_dense_module(module, name, *settings, _provenance(images, checkpoint))), images


def _provenance(images: CalibrationSet, checkpoint: str | None) -> dict[str, object]:
    created = datetime.now(UTC).isoformat(timespec="seconds")
    return {"created": created, "calibration": images.provenance(), "checkpoint": checkpoint}


def _check_number(images: int, id_recall: float) -> None:
    """Raise MmoodError before any image is read if there are too few."""
    if images < least_images(id_recall):
        raise MmoodError(
            f"{images} ID images are too few for a threshold with --id_recall {id_recall:g}, which needs at least "
            f"{least_images(id_recall)}; take more images (--fraction, data.val.id) or a smaller --id_recall."
        )


def _said(calibration: Calibration, name: str, images: CalibrationSet, out: Path, learns: str | None) -> list[str]:
    n, recall = len(calibration.scores), calibration.id_recall
    band, of_new = coverage_band(n, recall), coverage_band(n, recall, _NEW_IMAGES)
    lines = [
        f"Threshold of {name}: {calibration.threshold:.6g}, by {n} images of '{images.index.name}' ({images.source})."
    ]
    ties = ties_at_threshold(calibration)
    if ties is None:
        lines.append(
            f"Of new ID images {band.mean:.2%} are accepted in expectation; over the draw of the {n} images, 95 % of "
            f"such thresholds accept between {band.low:.2%} and {band.high:.2%}, and of the next {_NEW_IMAGES} images "
            f"between {of_new.low:.1%} and {of_new.high:.1%} (beta-binomial)."
        )
    else:
        lines += [f"Beware: {ties}", f"Of new ID images at least {band.mean:.2%} are accepted in expectation."]
    if band.useless(recall):
        lines.append(
            f"Beware: {n} images are few for --id_recall {recall:g}. This threshold may reject more than twice the "
            f"{1 - recall:.1%} of ID images that were asked for."
        )
    if learns is not None:
        lines.append(learns)
    return [*lines, f"Detector: {out}"]
