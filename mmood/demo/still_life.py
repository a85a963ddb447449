"""Still lifes: pictures of several things with a mask that says which pixel shows what; stars are held out as OoD."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import final

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from mmood.demo.canvas import SIDE, develop
from mmood.demo.scenes import GROUNDS, Scene, paint_ground, paint_thing
from mmood.demo.world import Progress, build_set, silent
from mmood.shards.inputs import InputSample

VERSION = 1
"""Raised whenever a picture changes, so that no old set is taken for a new one."""

THINGS = ("red circle", "blue square", "green triangle", "yellow cross", "purple star")
"""What lies on the ground, in the order of the labels 1, 2, ...; the ground is 0."""

OOD = len(THINGS)
"""The label that is held out."""

SHARES = {"demo-still-train": 4, "demo-still-test": 8}
"""Sets, and how many times smaller than the other sets of the world they are."""

_LEAST, _MOST = 2, 4


def draw(name: str, index: int, seed: int) -> tuple[Image.Image, UInt8[np.ndarray, "side side"]]:
    """Return the picture at `index` of a set, and the label of each of its pixels.

    There are two to four things. Only every other picture of the test set has one that is held out.
    """
    digest = hashlib.sha256(f"still life {VERSION}/{seed}/{name}/{index}".encode()).digest()
    rng = np.random.default_rng(int.from_bytes(digest[:16]))
    picture = paint_ground(str(rng.choice(GROUNDS)), rng)
    labels = np.zeros((SIDE, SIDE), dtype=np.uint8)
    chosen = rng.integers(1, OOD, rng.integers(_LEAST, _MOST + 1))
    if name == "demo-still-test" and index % 2:
        chosen[-1] = OOD
    for label in chosen.tolist():
        colour, shape = THINGS[label - 1].split()
        (x, y), radius = rng.uniform(0.2, 0.8, 2), rng.uniform(0.12, 0.2)
        scene = Scene(colour, shape, 1, "small", "plain", "plain")
        picture, mask = paint_thing(picture, scene, (x, y), radius, rng)
        labels[mask > 0.5] = label
    return develop(picture, rng), labels


@final
class StillLifeInput:
    """A set of still lifes as input of `mmood.shards.packing.pack`.

    Args:
        name: of the set.
        size: number of pictures.
        seed: of everything that is random.
    """

    class_names: Sequence[str] = ()
    class_folders: Sequence[str] = ()

    def __init__(self, name: str, size: int, seed: int) -> None:
        self.name = name
        self.size = size
        self.seed = seed
        self.fingerprint = f"{self.source}, {name}, {size} images"

    @property
    def source(self) -> str:
        """Where the pictures come from."""
        return f"mmood demo still lifes {VERSION}, seed {self.seed}"

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, position: int) -> InputSample:
        image, labels = draw(self.name, position, self.seed)
        return InputSample(_png(image), None, "", "", _png(Image.fromarray(labels)))


def build(folder: Path, size: int, seed: int = 0, progress: Progress = silent) -> None:
    """Write the sets of still lifes as shards below a folder; see `mmood.demo.world.build`.

    Args:
        folder: `data.root`.
        size: images of the other sets of the world.
        seed: of everything that is random.
        progress: called after each image.
    """
    for name, share in SHARES.items():
        build_set(folder / name, StillLifeInput(name, max(8, size // share), seed), progress)


def _png(image: Image.Image) -> bytes:
    content = io.BytesIO()
    image.save(content, format="PNG")
    return content.getvalue()
