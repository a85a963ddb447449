"""What computes the scores behind a detector: torch or onnxruntime, with the same face."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Protocol, TypeAlias, TypeVar

import numpy as np
from jaxtyping import Float32, Int64
from PIL.Image import Image

from mmood.detector.pictures import Picture, rgb
from mmood.errors import ImageError, MmoodError
from mmood.images.rgb import Exif

Prepared: TypeAlias = Float32[np.ndarray, "3 height width"] | ImageError
"""An image as the tower reads it, or why it cannot be read."""

Item = TypeVar("Item")
Pixels = Float32[np.ndarray, "batch 3 height width"]


@dataclass(frozen=True)
class Scored:
    """Arrays of a batch.

    Attributes:
        scores: (B,) higher = more in-distribution.
        logits: (B, C), what class and probability come from.
        embedding: (B, D) of unit norm, in the joint space where there is one.
        negative: (B,) number of the nearest negative label, or None.
        patches: (B, rows, columns) score of each patch, of a score that has a map; otherwise None.
    """

    scores: Float32[np.ndarray, " batch"]
    logits: Float32[np.ndarray, "batch classes"]
    embedding: Float32[np.ndarray, "batch dim"]
    negative: Int64[np.ndarray, " batch"] | None = None
    patches: Float32[np.ndarray, "batch rows columns"] | None = None


class Scorer(Protocol):
    """Scores batches of images; it keeps no state, so several threads may use it at once."""

    @property
    def on_cpu(self) -> bool:
        """Whether the tower needs the cores that also decode images: then doing both at once makes both slower."""

    def prepare(self, image: Image) -> Float32[np.ndarray, "3 height width"]:
        """Return an RGB image as the tower reads it."""

    def score(self, pixels: Pixels) -> Scored:
        """Return the arrays of a batch of at least one image."""


def prepared(scorer: Scorer, picture: Picture, exif: Exif) -> Prepared:
    """Return a picture as the tower reads it, or why it cannot be read."""
    try:
        return scorer.prepare(rgb(picture, exif))
    except ImageError as error:
        return error


def batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Yield lists of `size` items, the last one shorter; MmoodError for a size below 1."""
    if size < 1:
        raise MmoodError(f"batch_size is {size}; it must be at least 1.")
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch
