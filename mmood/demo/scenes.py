"""Scenes: coloured things on a ground, with light, shadow and clutter."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mmood.demo.canvas import Mask, Picture, blend, grid, palette, polygon, stencil, waves
from mmood.demo.shapes import COLOURS, SHAPES, Colour, draw_colour

SIZES = ("small", "medium", "large")
FILLS = ("plain", "striped", "dotted")
GROUNDS = ("plain", "cloudy", "striped", "cluttered")

_RADII = {"small": 0.16, "medium": 0.24, "large": 0.32}
_PLACES = {1: [(0.5, 0.5)], 2: [(0.3, 0.35), (0.7, 0.65)], 3: [(0.28, 0.3), (0.72, 0.34), (0.5, 0.74)]}


@dataclass(frozen=True)
class Scene:
    """What is to be seen: one to three alike things of a colour and a shape, and what they are on."""

    colour: str
    shape: str
    count: int
    size: str
    fill: str
    ground: str


def draw_scene(colour: str, shape: str, rng: np.random.Generator) -> Scene:
    """Return a random scene of a coloured shape."""
    count = int(rng.choice([1, 2, 3], p=[0.7, 0.2, 0.1]))
    size = str(rng.choice(SIZES)) if count == 1 else "small"
    fill = str(rng.choice(FILLS, p=[0.6, 0.2, 0.2]))
    return Scene(colour, shape, count, size, fill, str(rng.choice(GROUNDS)))


def paint_scene(scene: Scene, rng: np.random.Generator) -> Picture:
    """Return the picture of a scene."""
    picture = paint_ground(scene.ground, rng)
    for _ in range(rng.integers(0, 3)):
        picture = _paint_distractor(picture, rng)
    for x, y in _PLACES[scene.count]:
        spread = 0.14 if scene.count == 1 else 0.04
        centre = (x + rng.uniform(-spread, spread), y + rng.uniform(-spread, spread))
        radius = _RADII[scene.size] * rng.uniform(0.85, 1.15)
        picture, _ = paint_thing(picture, scene, centre, radius, rng)
    return picture


def paint_ground(ground: str, rng: np.random.Generator) -> Picture:
    """Return an empty ground, one of `GROUNDS`."""
    x, y = grid()
    first, second, third = palette(rng, 3, saturation=0.4)
    angle = rng.uniform(0, 2 * np.pi)
    slope = (x - 0.5) * np.cos(angle) + (y - 0.5) * np.sin(angle) + 0.5
    picture = blend(first, 0.6 * first + 0.4 * second, slope.clip(0, 1))
    if ground == "cloudy":
        return blend(picture, second, waves(rng, 4))
    if ground == "striped":
        return blend(picture, 0.5 * (first + second), stencil(np.sin(slope * rng.uniform(25, 60)), 0.0))
    if ground == "cluttered":
        for colour in (second, third, second, third):
            corners = rng.uniform(-1, 1, (4, 2)).tolist()
            picture = blend(picture, colour, 0.6 * polygon(corners, tuple(rng.random(2)), 0.35, 0))
    return picture


def _paint_distractor(picture: Picture, rng: np.random.Generator) -> Picture:
    """Add a small pale thing of any kind near an edge: in the picture, and not what it is about."""
    outline = SHAPES[str(rng.choice(list(SHAPES)))]()
    angle = rng.uniform(0, 2 * np.pi)
    centre = (0.5 + 0.5 * np.cos(angle), 0.5 + 0.5 * np.sin(angle))
    mask = polygon(outline, centre, rng.uniform(0.08, 0.13), rng.random())
    return blend(picture, draw_colour(str(rng.choice(COLOURS)), rng), 0.75 * mask)


def paint_thing(
    picture: Picture, scene: Scene, centre: tuple[float, float], radius: float, rng: np.random.Generator
) -> tuple[Picture, Mask]:
    """Return the picture with the thing of a scene and its shadow, and where the thing is."""
    outline = SHAPES[scene.shape]()
    turn = rng.normal(0, 0.05)
    shadow = polygon(outline, (centre[0] + 0.03, centre[1] + 0.04), radius * 1.06, turn)
    picture = blend(picture, np.zeros(3), 0.45 * shadow)
    colour = draw_colour(scene.colour, rng)
    surface, mask = _lit(colour, scene.fill, centre, radius, rng), polygon(outline, centre, radius, turn)
    return blend(picture, surface, mask), mask


def _lit(colour: Colour, fill: str, centre: tuple[float, float], radius: float, rng: np.random.Generator) -> Picture:
    """Return the surface of a thing: its colour and pattern, lit from the upper left."""
    x, y = grid()
    light = 1.12 - 0.22 * ((x - centre[0]) + (y - centre[1]) + 2 * radius) / (4 * radius)
    surface = blend(colour, 0.55 * colour, _pattern(fill, rng))
    return blend(np.zeros(3), surface, light.clip(0.7, 1.2))


def _pattern(fill: str, rng: np.random.Generator) -> Mask:
    x, y = grid()
    phase = rng.uniform(0, 2 * np.pi)
    if fill == "striped":
        angle = rng.uniform(0, np.pi)
        return stencil(np.sin(70 * (x * np.cos(angle) + y * np.sin(angle)) + phase), 0.3)
    if fill == "dotted":
        return stencil(np.sin(60 * x + phase) * np.sin(60 * y + phase), 0.45)
    return np.zeros((1, 1))
