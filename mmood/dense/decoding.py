"""From a sample's bytes to its image and mask."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from mmood.dense.labels import MaskLabels
from mmood.dense.transforms import PairTransform
from mmood.errors import ImageError, MmoodError
from mmood.images.masks import check_mask_size, read_mask
from mmood.images.rgb import Exif
from mmood.loading.decoding import SampleError, decode_image
from mmood.loading.loader import OOD_LABEL, Decoded
from mmood.shards.reading import MASK, RawSample


@dataclass(frozen=True)
class PairDecoder:
    """Turns a sample with a mask into one tensor of four channels.

    Attributes:
        transform: image and targets -> (4, H, W).
        labels: what the numbers in the mask mean.
        exif: whether images are turned as their cameras noted.
    """

    transform: PairTransform
    labels: MaskLabels
    exif: Exif = "ignore"

    def __call__(self, sample: RawSample) -> Decoded:
        """Return image and targets; SampleError if there is no mask, or one of another size or with other labels."""
        image, targets = decode_image(sample, self.exif), decode_targets(sample, self.labels)
        try:
            check_mask_size(targets, image.width, image.height)
        except MmoodError as error:
            raise SampleError(sample, str(error)) from error
        return Decoded(self.transform(image, targets), OOD_LABEL, sample.key)

    def empty_image(self) -> Tensor:
        """Return a batch of no image."""
        return torch.empty((0, 4, *self.transform.size))


def decode_targets(sample: RawSample, labels: MaskLabels) -> Int64[np.ndarray, "height width"]:
    """Return the target of every pixel; SampleError if there is no mask, or one with a label that has no name."""
    mask = decode_mask(sample)
    try:
        return labels.targets(mask)
    except MmoodError as error:
        raise SampleError(sample, str(error)) from error


def decode_mask(sample: RawSample) -> Int64[np.ndarray, "height width"]:
    """Return the label of every pixel; SampleError if there is no mask, or it does not hold one byte a pixel."""
    if sample.mask is None:
        raise SampleError(sample, f"there is no mask (`{MASK}`)")
    try:
        return read_mask(sample.mask)
    except ImageError as error:
        raise SampleError(sample, str(error)) from error
