"""From the bytes of an image file to an image in RGB: the one way for every door.

Images become RGB as the reference pipelines do it: palettes are expanded, alpha is dropped (not blended), CMYK is
converted without a colour profile, and EXIF orientation is *not* applied, as neither torchvision's `ImageFolder` nor
open_clip applies it. Sixteen-bit greys are scaled to eight bits; Pillow alone would clip them to white.
"""

from __future__ import annotations

import io
import warnings

import numpy as np
from PIL import Image

MAX_PIXELS = 2**27  # 134 million; beyond it a small file would unfold to gigabytes
# Formats by content, whatever the extension: Pillow's others include some that start programs (EPS).
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "PPM", "GIF", "TIFF")


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
