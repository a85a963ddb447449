"""What can be given to a detector: a path, encoded bytes, a PIL image, an array or a tensor."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
from PIL import Image

from mmood.errors import ImageError, MmoodError
from mmood.images.rgb import Exif, rgb_image, to_rgb


class Tensor(Protocol):
    """A torch tensor, without importing torch."""

    def __array__(self, dtype: Any = None) -> np.ndarray[Any, Any]:
        """Return the tensor as an array."""


Picture: TypeAlias = str | Path | bytes | Image.Image | np.ndarray[Any, Any] | Tensor
"""A file, its bytes, a PIL image, or pixels in uint8: (H, W), (H, W, 3) or (3, H, W)."""


def rgb(picture: Picture, exif: Exif) -> Image.Image:
    """Return a picture as a PIL image in RGB.

    Args:
        picture: what was given.
        exif: whether it is turned as its camera noted.

    Raises:
        ImageError: it cannot be read or decoded.
        MmoodError: it is not a picture in any of these forms.
    """
    if isinstance(picture, bytes):
        return rgb_image(picture, exif)
    if isinstance(picture, Image.Image):
        return to_rgb(picture, exif)
    if not isinstance(picture, str | Path):
        return _of_pixels(picture)
    try:
        content = Path(picture).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = error.strerror if isinstance(error, OSError) else error
        raise ImageError(f"the image cannot be read: {reason}") from error
    return rgb_image(content, exif)


def _of_pixels(picture: object) -> Image.Image:
    pixels = np.asarray(picture)
    if pixels.dtype != np.uint8 or pixels.size == 0:
        raise MmoodError(
            f"A detector takes pixels in uint8, from 0 to 255, and this {type(picture).__name__} has {pixels.dtype} in "
            f"the shape {pixels.shape}; give (H, W, 3) or (3, H, W) in uint8, a path, bytes or a PIL image."
        )
    if pixels.ndim == 3 and pixels.shape[0] == 3 and pixels.shape[2] != 3:
        pixels = pixels.transpose(1, 2, 0)
    if pixels.ndim != 2 and (pixels.ndim != 3 or pixels.shape[2] != 3):
        raise MmoodError(f"Pixels have the shape {pixels.shape}; they must be (H, W), (H, W, 3) or (3, H, W).")
    return to_rgb(Image.fromarray(np.ascontiguousarray(pixels)), "ignore")
