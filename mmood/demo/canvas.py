"""The canvas that all pictures of the demo world are painted on, and its brushes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from mmood.demo.shapes import Colour, Outline, hsv

SIDE = 48
"""Width and height of a picture in pixels."""

_FINE = 3  # masks are drawn this much larger, so that edges come out smooth

Picture = NDArray[np.float64]
"""(SIDE, SIDE, 3), red, green and blue in [0, 1]."""

Mask = NDArray[np.float64]
"""(SIDE, SIDE) in [0, 1], or anything that broadcasts to it."""


def grid() -> tuple[Mask, Mask]:
    """Return x (1, SIDE) and y (SIDE, 1) of the pixels' centres, from 0 to 1, y downwards."""
    centres = (np.arange(SIDE) + 0.5) / SIDE
    return centres[None, :], centres[:, None]


def blend(below: Picture | Colour, above: Picture | Colour, mask: Mask) -> Picture:
    """Return `above` over `below` where the mask is 1, `below` where it is 0."""
    return below + (above - below) * mask[..., None]


def stencil(heights: Mask, level: float) -> Mask:
    """Return the mask that is 1 where the heights are above the level, and 0 elsewhere."""
    return np.where(heights > level, 1.0, 0.0)


def polygon(outline: Outline, centre: tuple[float, float], radius: float, turn: float) -> Mask:
    """Return the mask of an outline, moved, scaled and rotated by `turn` (in turns); lengths in units of the side."""
    size = SIDE * _FINE
    sine, cosine = np.sin(2 * np.pi * turn), np.cos(2 * np.pi * turn)
    points = np.array(outline) @ np.array([[cosine, sine], [-sine, cosine]]) * radius + centre
    image = Image.new("L", (size, size))
    ImageDraw.Draw(image).polygon([(x, y) for x, y in (points * size).tolist()], fill=255)
    return as_mask(image)


def as_mask(image: Image.Image) -> Mask:
    """Return the mask of a grey image whose side is a multiple of SIDE."""
    return np.asarray(image.reduce(image.width // SIDE), dtype=np.float64) / 255


def waves(rng: np.random.Generator, cells: int) -> Mask:
    """Return smooth random hills in [0, 1], about `cells` of them along a side."""
    heights = Image.fromarray(rng.random((cells + 1, cells + 1)).astype(np.float32))
    return np.asarray(heights.resize((SIDE, SIDE), Image.Resampling.BICUBIC), dtype=np.float64).clip(0, 1)


def palette(rng: np.random.Generator, count: int, saturation: float) -> list[Colour]:
    """Return colours of any hue, up to a saturation, in clearly different lightnesses and in random order."""
    values = rng.permutation(np.linspace(0.25, 0.9, count)) + rng.normal(0, 0.05, count)
    return [hsv(rng.random(), saturation * rng.random(), value) for value in values.tolist()]


def develop(picture: Picture, rng: np.random.Generator) -> Image.Image:
    """Return the photograph of a picture: tinted by the light, a little dark or bright, with a sensor's noise."""
    tint = 1 + rng.normal(0, 0.04, 3) + rng.normal(0, 0.08)
    noise = rng.normal(0, rng.uniform(0.005, 0.05), picture.shape)
    return Image.fromarray(((picture * tint + noise).clip(0, 1) * 255).astype(np.uint8))
