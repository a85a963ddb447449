"""Maps of scores on pictures: from the grid of a tower's patches to the pixels of the picture that it saw."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from PIL import Image

from mmood.images.preprocessing import Box

# From low to high, evenly spaced.
_COLOURS = np.array([[28, 16, 68], [30, 84, 140], [32, 152, 138], [140, 204, 92], [253, 238, 120]], dtype=np.float64)
_OPACITY = 0.6
_UNSEEN = 0.35  # brightness of what the tower did not see


def value_range(values: Float[np.ndarray, "*shape"]) -> tuple[float, float]:
    """Return the 2nd and the 98th percentile of the finite values of many maps, between which colours change.

    >>> value_range(np.arange(101.0))
    (2.0, 98.0)
    """
    finite = values[np.isfinite(values)]
    low, high = np.percentile(finite, [2, 98]) if finite.size else (0.0, 1.0)
    return float(low), float(high)


def on_picture(
    values: Float[np.ndarray, "rows columns"], box: Box, size: tuple[int, int]
) -> Float[np.ndarray, "height width"]:
    """Return a map at the pixels of a picture, interpolated between the centres of the patches; NaN where none lies.

    Args:
        values: one for each patch, row by row.
        box: the part of the picture that the patches divide (`Preprocessing.seen`).
        size: (width, height) of the picture.
    """
    width, height = size
    columns, inside_x = _places(width, box.left, box.right, values.shape[1])
    rows, inside_y = _places(height, box.top, box.bottom, values.shape[0])
    across = _interpolated(values.astype(np.float64), columns, axis=1)
    whole = _interpolated(across, rows, axis=0)
    whole[~inside_y] = np.nan
    whole[:, ~inside_x] = np.nan
    return whole


def overlay(
    picture: Image.Image, values: Float[np.ndarray, "rows columns"], box: Box, limits: tuple[float, float]
) -> Image.Image:
    """Return an RGB picture with a map laid over it, dark blue where it is low and yellow where it is high.

    What the tower did not see is darkened.

    Args:
        picture: in RGB.
        values: one for each patch, row by row.
        box: the part of the picture that the patches divide.
        limits: the values at which the colours begin and end.
    """
    low, high = limits
    shares = np.clip((values.astype(np.float64) - low) / max(high - low, 1e-12), 0, 1)
    levels = on_picture(shares, box, picture.size)
    seen = np.isfinite(levels)
    places = np.linspace(0, 1, len(_COLOURS))
    colours = np.stack([np.interp(levels[seen], places, channel) for channel in _COLOURS.T], axis=-1)
    pixels = np.asarray(picture, dtype=np.float64)
    shown = _UNSEEN * pixels
    shown[seen] = (1 - _OPACITY) * pixels[seen] + _OPACITY * colours
    return Image.fromarray(np.rint(shown).astype(np.uint8))


def _places(
    pixels: int, start: float, stop: float, patches: int
) -> tuple[Float[np.ndarray, " pixels"], Float[np.ndarray, " pixels"]]:
    """Return where the centres of pixels lie, counted in centres of patches, and whether any patch covers them."""
    centres = np.arange(pixels) + 0.5
    return (centres - start) / (stop - start) * patches - 0.5, (centres > start) & (centres < stop)


def _interpolated(
    values: Float[np.ndarray, "first second"], places: Float[np.ndarray, " pixels"], axis: int
) -> Float[np.ndarray, ...]:
    last = values.shape[axis] - 1
    places = np.clip(places, 0, last)
    before = np.floor(places).astype(int)
    share = np.expand_dims(places - before, 1 - axis)
    first, second = (np.take(values, np.minimum(at, last), axis) for at in (before, before + 1))
    between: np.ndarray = first + share * (second - first)
    return between
