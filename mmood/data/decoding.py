"""From a sample's bytes to its image and label.

Images become RGB as the reference pipelines do it: palettes are expanded, alpha is dropped (not blended), CMYK is
converted without a colour profile, and EXIF orientation is *not* applied, as neither torchvision's `ImageFolder` nor
open_clip applies it. Sixteen-bit greys are scaled to eight bits; Pillow alone would clip them to white.
"""

from __future__ import annotations

import io
import warnings

import numpy as np
from PIL import Image

from mmood.data.shards import RawSample
from mmood.errors import MmoodError

MAX_PIXELS = 2**27  # 134 million; beyond it a small file would unfold to gigabytes
# Formats by content, whatever the extension: Pillow's others include some that start programs (EPS).
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "PPM", "GIF", "TIFF")


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


def decode_image(sample: RawSample) -> Image.Image:
    """Return the image in RGB; SampleError if there is none, it is broken, or it has more than `MAX_PIXELS`."""
    if sample.image is None:
        raise SampleError(sample, "the sample has no image, or several")
    try:
        image = open_image(sample.image)
        return to_rgb(image)
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        # Pillow's decoders raise any of these on broken bytes.
        reason = str(error).replace("\n", " ").rstrip(".") or type(error).__name__
        raise SampleError(sample, f"the image cannot be decoded ({_without_address(reason)})") from error


def open_image(content: bytes) -> Image.Image:
    """Return the image with its header read; ValueError for too many pixels, OSError for no image."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit speaks below
        image = Image.open(io.BytesIO(content), formats=_FORMATS)
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ValueError(f"{width} x {height} pixels are more than {MAX_PIXELS}")
    return image


def to_rgb(image: Image.Image) -> Image.Image:
    """Return the image in mode RGB; ValueError for a mode without a stated range (floating point)."""
    if image.mode == "RGB":
        image.load()
        return image
    if image.mode == "F":
        raise ValueError("floating-point pixels have no stated range")
    if image.mode.startswith("I"):
        grey = np.asarray(image).astype(np.int64).clip(0, 65535) // 257
        return Image.fromarray(grey.astype(np.uint8), mode=None).convert("RGB")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # transparency in a palette is dropped knowingly
        return image.convert("RGB")


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


def _without_address(reason: str) -> str:
    # "cannot identify image file <_io.BytesIO object at 0x7f...>" differs from run to run.
    return reason.partition(" <_io")[0]
