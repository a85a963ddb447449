"""Outlines and colours of the objects in the demo world."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Outline = list[tuple[float, float]]
Colour = NDArray[np.float64]
"""Red, green and blue in [0, 1]."""

ROUND = 40  # corners of a curve


def _regular(corners: int) -> Outline:
    return [_on_circle(corner / corners) for corner in range(corners)]


def _on_circle(turn: float, radius: float = 1.0) -> tuple[float, float]:
    """Return the point after this share of a turn, clockwise from the top; y points down as in images."""
    return radius * math.sin(2 * math.pi * turn), -radius * math.cos(2 * math.pi * turn)


def _star() -> Outline:
    return [_on_circle(corner / 10, 0.42 if corner % 2 else 1.0) for corner in range(10)]


def _cross() -> Outline:
    quarter = [(-0.34, -0.95), (0.34, -0.95), (0.34, -0.34)]
    return [_turned(point, turn) for turn in range(4) for point in quarter]


def _turned(point: tuple[float, float], quarters: int) -> tuple[float, float]:
    x, y = point
    for _ in range(quarters):
        x, y = -y, x
    return x, y


def _heart() -> Outline:
    angles = [2 * math.pi * step / ROUND for step in range(ROUND)]
    return [
        (math.sin(t) ** 3, -(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)) / 16)
        for t in angles
    ]


def _moon() -> Outline:
    # Two circles that meet in the horns: the outer one the long way round, the inner one back.
    horn = math.acos(0.35) / (2 * math.pi)
    outer = [_on_circle(0.25 + horn + (1 - 2 * horn) * step / ROUND) for step in range(ROUND + 1)]
    half = math.asin(math.sqrt(1 - 0.35**2) / 0.95) / (2 * math.pi)
    inner = [_on_circle(0.75 + half - 2 * half * step / ROUND, 0.95) for step in range(ROUND + 1)]
    bite = outer[0][0] - inner[-1][0]
    return outer + [(x + bite, y) for x, y in inner]


def _ring() -> Outline:
    # One outline that runs round the outside, steps in, and comes back round the hole.
    outer = [_on_circle(step / ROUND) for step in range(ROUND + 1)]
    return outer + [(0.55 * x, 0.55 * y) for x, y in reversed(outer)]


def _arrow() -> Outline:
    return [(0, -1), (0.85, -0.1), (0.3, -0.1), (0.3, 0.95), (-0.3, 0.95), (-0.3, -0.1), (-0.85, -0.1)]


def _square() -> Outline:
    return [(-0.82, -0.82), (0.82, -0.82), (0.82, 0.82), (-0.82, 0.82)]


def _diamond() -> Outline:
    return [(0, -1.05), (0.66, 0), (0, 1.05), (-0.66, 0)]


SHAPES: dict[str, Callable[[], Outline]] = {
    "circle": lambda: _regular(ROUND),
    "square": _square,
    "triangle": lambda: _regular(3),
    "star": _star,
    "heart": _heart,
    "ring": _ring,
    "diamond": _diamond,
    "arrow": _arrow,
    "cross": _cross,
    "moon": _moon,
}
"""Outlines about the origin, in units of the thing's radius; each of the last five looks like one of the first five."""

# Hue in turns, saturation, value: neighbours are close enough to be taken for each other in odd light.
_HSV: dict[str, tuple[float, float, float]] = {
    "red": (0.995, 0.85, 0.85),
    "orange": (0.075, 0.88, 0.95),
    "yellow": (0.150, 0.82, 0.95),
    "green": (0.350, 0.70, 0.65),
    "cyan": (0.500, 0.65, 0.85),
    "blue": (0.615, 0.78, 0.85),
    "purple": (0.765, 0.60, 0.70),
    "pink": (0.920, 0.45, 0.95),
    "brown": (0.060, 0.62, 0.45),
    "white": (0.100, 0.04, 0.96),
}
COLOURS = tuple(_HSV)


def draw_colour(name: str, rng: np.random.Generator) -> Colour:
    """Return one of the many tones that go by the name of a colour."""
    hue, saturation, value = _HSV[name]
    return hsv(hue + rng.normal(0, 0.015), saturation + rng.normal(0, 0.05), value + rng.normal(0, 0.05))


def hsv(hue: float, saturation: float, value: float) -> Colour:
    """Return the colour of a hue in turns, a saturation and a value; the last two are clipped to [0, 1].

    >>> hsv(0.0, 1.0, 1.0).tolist()
    [1.0, 0.0, 0.0]
    """
    return np.array(colorsys.hsv_to_rgb(hue % 1.0, min(max(saturation, 0.0), 1.0), min(max(value, 0.0), 1.0)))
