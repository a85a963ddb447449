"""From a sample's bytes to its image and label."""

from __future__ import annotations

from PIL import Image

from mmood.errors import ImageError, MmoodError
from mmood.images.rgb import Exif, rgb_image
from mmood.shards.reading import RawSample


class SampleError(MmoodError):
    """A sample that cannot be used.

    Attributes:
        sample: the sample.
        reason: what is wrong with it, without the place.
    """

    def __init__(self, sample: RawSample, reason: str) -> None:
        super().__init__(f"Shard {sample.shard}, key {sample.key} ('{sample.name}'): {reason}.")
        self.sample = sample
        self.reason = reason


def decode_image(sample: RawSample, exif: Exif) -> Image.Image:
    """Return the image in RGB; SampleError if there is none, or it cannot be used."""
    if sample.image is None:
        raise SampleError(sample, "the sample has no image, or several")
    try:
        return rgb_image(sample.image, exif)
    except ImageError as error:
        raise SampleError(sample, str(error)) from error


def decode_label(sample: RawSample, classes: int) -> int:
    """Return the class index in [0, classes); SampleError if `cls` is missing, no integer, or out of range."""
    if sample.cls is None:
        raise SampleError(sample, "the label (`cls`) is missing")
    text = sample.cls[:32].decode("ascii", errors="replace").strip()
    if not text.isdecimal():
        raise SampleError(sample, f"the label '{text}' is not a class index")
    if int(text) >= classes:
        raise SampleError(sample, f"the label {text} is not below the number of classes, {classes}")
    return int(text)
