"""Whole other kinds of picture, without any thing in them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mmood.demo.canvas import SIDE, Mask, Picture, as_mask, blend, grid, palette, stencil, waves

_LETTERS = "ABDEFGHKMNPRSTWXYZ"  # none that looks like a thing: no O, C, V ...


def _direction(rng: np.random.Generator) -> tuple[Mask, Mask]:
    """Return coordinates along a random direction and across it."""
    x, y = grid()
    angle = rng.uniform(0, np.pi)
    return x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)


def _stripes(rng: np.random.Generator) -> Picture:
    along, _ = _direction(rng)
    first, second = palette(rng, 2, saturation=0.9)
    return blend(first, second, 0.5 + 0.5 * np.sin(along * rng.uniform(20, 60)))


def _checkerboard(rng: np.random.Generator) -> Picture:
    along, across = _direction(rng)
    first, second = palette(rng, 2, saturation=0.9)
    cells = rng.uniform(4, 9)
    return blend(first, second, (np.floor(along * cells) + np.floor(across * cells)) % 2)


def _clouds(rng: np.random.Generator) -> Picture:
    first, second, third = palette(rng, 3, saturation=0.8)
    picture = blend(first, second, waves(rng, int(rng.integers(3, 7))))
    return blend(picture, third, waves(rng, int(rng.integers(5, 11))) ** 2)


def _letters(rng: np.random.Generator) -> Picture:
    fine = 2
    page = Image.new("L", (SIDE * fine, SIDE * fine))
    font = ImageFont.load_default(size=int(rng.integers(20, 36)))
    for line in range(4):
        text = "".join(rng.choice(list(_LETTERS), 8).tolist())
        ImageDraw.Draw(page).text((-8, line * 28 - 6), text, fill=255, font=font)
    first, second = palette(rng, 2, saturation=0.7)
    return blend(first, second, as_mask(page))


def _static(rng: np.random.Generator) -> Picture:
    grain = int(rng.integers(1, 4))
    cells = -(-SIDE // grain)
    field = rng.random((cells, cells, 3)).repeat(grain, axis=0).repeat(grain, axis=1)
    return field[:SIDE, :SIDE]


def _hills(rng: np.random.Generator) -> Picture:
    x, y = grid()
    sky, *slopes = palette(rng, 4, saturation=0.7)
    picture = blend(sky, np.ones(3), 0.6 * y + 0 * x)
    for number, colour in enumerate(slopes):
        crest = 0.45 + 0.17 * number + 0.1 * np.sin(x * rng.uniform(4, 10) + rng.uniform(0, 6))
        picture = blend(picture, colour, stencil(y - crest, 0.0))
    return picture


def _mosaic(rng: np.random.Generator) -> Picture:
    x, y = grid()
    seeds = rng.random((int(rng.integers(14, 30)), 2))
    distances = (x[..., None] - seeds[:, 0]) ** 2 + (y[..., None] - seeds[:, 1]) ** 2
    tiles: Picture = np.array(palette(rng, len(seeds), saturation=0.9))[distances.argmin(axis=-1)]
    return tiles


def _ripples(rng: np.random.Generator) -> Picture:
    x, y = grid()
    left, top = rng.uniform(-0.2, 1.2, 2)
    first, second = palette(rng, 2, saturation=0.9)
    return blend(first, second, 0.5 + 0.5 * np.sin(rng.uniform(30, 60) * np.hypot(x - left, y - top)))


def _tartan(rng: np.random.Generator) -> Picture:
    x, y = grid()
    first, second, third = palette(rng, 3, saturation=0.9)
    bands = rng.uniform(15, 35)
    picture = blend(first, second, 0.6 * stencil(np.sin(x * bands), 0.2) + 0 * y)
    return blend(picture, third, 0.6 * stencil(np.sin(y * bands), 0.2) + 0 * x)


def _zigzag(rng: np.random.Generator) -> Picture:
    along, across = _direction(rng)
    first, second = palette(rng, 2, saturation=0.9)
    teeth = np.abs((across * rng.uniform(4, 7)) % 1 - 0.5)
    return blend(first, second, stencil((along * rng.uniform(5, 9) + teeth) % 1, 0.5))


PATTERNS: dict[str, Callable[[np.random.Generator], Picture]] = {
    "stripes": _stripes,
    "checkerboard": _checkerboard,
    "clouds": _clouds,
    "letters": _letters,
    "static": _static,
    "hills": _hills,
    "mosaic": _mosaic,
    "ripples": _ripples,
    "tartan": _tartan,
    "zigzag": _zigzag,
}
"""Kinds of picture by name; each paints one at random."""
