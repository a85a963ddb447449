"""The demo world: which pictures are in which set, and the sets as shards.

A picture is a pure function of (seed, set, index): a larger world begins with the pictures of the smaller one. ID are
20 coloured shapes (`red circle`, ...). Near-OoD are 20 other pairings of the same colours and shapes, far-OoD are
pictures of other kinds altogether. The captions that the demo's CLIP learns from speak of all of it, as the web does.
"""

from __future__ import annotations

import hashlib
import io
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from mmood.demo.canvas import develop
from mmood.demo.captions import caption_pattern, caption_scene
from mmood.demo.patterns import PATTERNS
from mmood.demo.scenes import draw_scene, paint_scene
from mmood.demo.shapes import COLOURS, SHAPES
from mmood.errors import MmoodError
from mmood.shards.index import MissingSetError
from mmood.shards.inputs import InputSample, PackInput
from mmood.shards.packing import PackSettings, pack
from mmood.shards.shard_index import load_index

VERSION = 1
"""Raised whenever a picture changes, so that no old world is taken for a new one."""


Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and of how much."""


def silent(_what: str, _done: int, _total: int) -> None:
    """Report no progress."""


def _pairings(*steps: int) -> tuple[str, ...]:
    """Return coloured shapes: colour `3 n + step` for the n-th shape, so every colour is paired as often."""
    return tuple(
        f"{COLOURS[(3 * number + step) % len(COLOURS)]} {shape}"
        for step in steps
        for number, shape in enumerate(SHAPES)
    )


CLASSES = _pairings(0, 5)
"""The ID classes, in the order of their labels; a colour comes with two shapes that are much alike."""

_VALIDATION = ("tartan", "zigzag")

SETS: dict[str, tuple[str, ...]] = {
    "demo-train": CLASSES,
    "demo-val": CLASSES,
    "demo-test": CLASSES,
    "demo-near": _pairings(1, 6),
    "demo-far": tuple(name for name in PATTERNS if name not in _VALIDATION),
    "demo-val-ood": _VALIDATION,
}
"""What each set shows, in turns."""

LABELLED = ("demo-train", "demo-val", "demo-test")

CONCEPTS = (*_pairings(*range(len(COLOURS))), *PATTERNS)
"""Everything that there is in the world: 100 coloured shapes and 10 kinds of picture."""


@dataclass(frozen=True)
class CaptionedImage:
    """A picture of the world, with what it shows and what somebody wrote about it."""

    image: Image.Image
    concept: str
    caption: str


def render(set_name: str, concepts: tuple[str, ...], index: int, seed: int) -> CaptionedImage:
    """Return the picture at `index` of a set that shows these concepts in turns."""
    digest = hashlib.sha256(f"{VERSION}/{seed}/{set_name}/{index}".encode()).digest()
    rng = np.random.default_rng(int.from_bytes(digest[:16]))
    concept = concepts[index % len(concepts)]
    if concept in PATTERNS:
        return CaptionedImage(develop(PATTERNS[concept](rng), rng), concept, caption_pattern(concept, rng))
    colour, shape = concept.split()
    scene = draw_scene(colour, shape, rng)
    return CaptionedImage(develop(paint_scene(scene, rng), rng), concept, caption_scene(scene, rng))


class WorldInput(PackInput, Protocol):
    """A set of the world as input of `mmood.shards.packing.pack`."""

    @property
    def source(self) -> str:
        """World, version and seed, by which a set that is there is known."""


class SetInput:
    """A set of the world as input of `mmood.shards.packing.pack`."""

    def __init__(self, name: str, size: int, seed: int) -> None:
        self.name = name
        self.size = size
        self.seed = seed
        self.class_names: Sequence[str] = CLASSES if name in LABELLED else ()
        self.class_folders: Sequence[str] = ()
        self.source = f"mmood demo world {VERSION}, seed {seed}"
        self.fingerprint = f"demo world {VERSION}, seed {seed}, {name}, {size} images"

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, position: int) -> InputSample:
        picture = render(self.name, SETS[self.name], position, self.seed)
        content = io.BytesIO()
        picture.image.save(content, format="JPEG", quality=92)
        label = CLASSES.index(picture.concept) if self.name in LABELLED else None
        return InputSample(content.getvalue(), label, picture.concept, "")


def build(folder: Path, size: int, seed: int = 0, progress: Progress = silent) -> Path:
    """Write the sets of the world as shards below a folder, with `classes.txt` and `words.txt`; return the folder.

    What is complete and of this size and seed is kept, and so are the finished shards of a build that was killed. For
    tests, `build(tmp_path, size=40)` takes a fraction of a second.

    Args:
        folder: becomes `data.root`.
        size: images per set.
        seed: of everything that is random.
        progress: called after each image.

    Raises:
        MmoodError: the size is below 20, or a folder cannot be used.
    """
    if size < len(CLASSES):
        raise MmoodError(f"`--size` is {size}; it must be at least {len(CLASSES)}, one image per class.")
    folder.mkdir(parents=True, exist_ok=True)
    _write_lines(folder / "classes.txt", CLASSES)
    _write_lines(folder / "words.txt", [name for name in CONCEPTS if name not in CLASSES])
    for name in SETS:
        build_set(folder / name, SetInput(name, size, seed), progress)
    return folder


def build_set(folder: Path, samples: WorldInput, progress: Progress) -> None:
    """Write a set as shards into a folder; one that is complete is kept, and that of another world removed."""
    if _is_built(folder, len(samples), samples.source):
        return
    done = 0

    def advance(images: int) -> None:
        nonlocal done
        done += images
        progress(f"rendering {folder.name}", done, len(samples))

    pack(samples, folder, PackSettings(source=samples.source), advance)


def _is_built(folder: Path, size: int, source: str) -> bool:
    """Return whether the set is complete; what is complete and another world's is removed."""
    try:
        index = load_index(str(folder.parent), folder.name)
    except MissingSetError:
        return False
    if (index.count, index.source) == (size, source):
        return True
    shutil.rmtree(folder)
    return False


def _write_lines(file: Path, lines: Iterable[str]) -> None:
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
