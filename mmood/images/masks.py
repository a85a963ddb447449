"""Masks: images whose values are the numbers of labels, one byte a pixel."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int64

from mmood.errors import ImageError
from mmood.images.rgb import open_image

_MODES = ("L", "P", "1")


def read_mask(content: bytes) -> Int64[np.ndarray, "height width"]:
    """Return the label of every pixel; ImageError if these bytes hold no image with one byte a pixel."""
    try:
        mask = open_image(content)
        mode = mask.mode
        mask.load()
    except (ImageError, OSError, ValueError, SyntaxError) as error:
        raise ImageError(f"the mask cannot be decoded ({error})") from error
    if mode not in _MODES:
        raise ImageError(f"the mask has the mode {mode}; it needs one byte a pixel")
    return np.asarray(mask, dtype=np.int64)


def check_mask_size(mask: Int64[np.ndarray, "height width"], width: int, height: int) -> None:
    """Raise ImageError if the mask has another size than its image of this width and height."""
    if mask.shape != (height, width):
        raise ImageError(f"the mask has {mask.shape[1]} x {mask.shape[0]} pixels, but the image has {width} x {height}")
