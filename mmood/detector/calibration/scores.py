"""Calibrating a detector: ID images through the very path that later images take."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from jaxtyping import Float32

from mmood.detector.calibration.embeddings import CalibrationEmbeddings, summarised
from mmood.detector.pictures import Picture
from mmood.detector.scorer import Pixels, Scorer, batched, prepared
from mmood.errors import ImageError, MmoodError
from mmood.images.maps import value_range
from mmood.images.rgb import Exif


def calibration_scores(
    scorer: Scorer, images: Iterable[tuple[str, Picture]], exif: Exif, batch_size: int
) -> tuple[Float32[np.ndarray, " images"], CalibrationEmbeddings, tuple[float, float] | None]:
    """Return the scores of ID images, what is kept of their embeddings, and the range of the scores of patches, if any.

    Args:
        scorer: computes the scores.
        images: what an error calls each image, and the image.
        exif: whether images are turned as their cameras noted.
        batch_size: images that pass the tower together.

    Raises:
        MmoodError: there is no image, or one cannot be read.
    """
    scores, embeddings, patches = [], [], []
    for pixels in calibration_pixels(scorer, images, exif, batch_size):
        scored = scorer.score(pixels)
        scores.append(scored.scores)
        embeddings.append(scored.embedding)
        if scored.patches is not None:
            patches.append(scored.patches)
    return np.concatenate(scores), summarised(embeddings), value_range(np.concatenate(patches)) if patches else None


def calibration_pixels(
    scorer: Scorer, images: Iterable[tuple[str, Picture]], exif: Exif, batch_size: int
) -> Iterator[Pixels]:
    """Yield ID images as the tower reads them, in batches.

    Args:
        scorer: prepares them.
        images: what an error calls each image, and the image.
        exif: whether images are turned as their cameras noted.
        batch_size: images that pass the tower together.

    Raises:
        MmoodError: there is no image, or one cannot be read.
    """
    empty = True
    for batch in batched(images, batch_size):
        yield np.stack([_readable(name, prepared(scorer, picture, exif)) for name, picture in batch])
        empty = False
    if empty:
        raise MmoodError("There is no ID image to calibrate on.")


def _readable(name: str, pixels: np.ndarray | ImageError) -> np.ndarray:
    if isinstance(pixels, ImageError):
        raise MmoodError(f"The calibration image {name} cannot be used: {pixels}; take it out of the set.")
    return pixels
