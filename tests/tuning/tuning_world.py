"""Sets to tune on: ID of three colours, textures as OoD, all different from the sets of the tests' small world."""

import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from mmood.cli.main import main

COLOURS = ("red", "green", "blue")


def pack_set(
    root: Path, name: str, images: dict[str, list[np.ndarray]], source: str = "", labelled: bool = False
) -> None:
    """Pack pictures by class; of an OoD set that is the original class."""
    folder = root / "images" / name
    for number, (kind, pictures) in enumerate(images.items()):
        below = folder / (f"{number}-{kind}" if labelled else kind)
        below.mkdir(parents=True)
        for index, pixels in enumerate(pictures):
            Image.fromarray(pixels).save(below / f"{index:03}.png")
    flags = ["--out", str(root / name), "--folder", str(folder), "--quiet", "--source", source]
    assert main(["pack", *flags]) == 0


def coloured(count: int, seed: int) -> dict[str, list[np.ndarray]]:
    """Noise with one colour each; every sixth has the colour of the next class."""
    generator = np.random.default_rng(seed)
    found = {}
    for channel, colour in enumerate(COLOURS):
        pixels = generator.integers(0, 120, (count, 36, 40, 3), dtype=np.uint8)
        pixels[..., channel] += 90
        pixels[::6] = np.roll(pixels[::6], 1, axis=-1)
        found[f"{colour} square"] = list(pixels)
    return found


def noise(count: int, seed: int, kinds: tuple[str, ...]) -> dict[str, list[np.ndarray]]:
    """Noise of some made-up original classes, with a weaker colour."""
    generator = np.random.default_rng(seed)
    found = {}
    for kind in kinds:
        pixels = generator.integers(0, 120, (count, 36, 40, 3), dtype=np.uint8)
        for picture in pixels:
            picture[..., generator.integers(3)] += generator.integers(60, 100, dtype=np.uint8)
        found[kind] = list(pixels)
    return found


def world(root: Path) -> Path:
    """Write all sets below the root and return it."""
    pack_set(root, "train", coloured(20, 0), labelled=True)
    pack_set(root, "val", coloured(12, 1), labelled=True)
    pack_set(root, "test", coloured(9, 2), labelled=True)
    pack_set(root, "val-ood", noise(8, 3, ("stripes", "dots")), source="patterns of one book")
    pack_set(root, "test-ood", noise(7, 4, ("waves", "rings")), source="patterns of another book")
    pack_set(root, "same-source", noise(7, 5, ("zigzags",)), source="patterns of one book")
    pack_set(root, "same-class", noise(7, 6, ("Dots", "cubes")))
    shared = noise(5, 7, ("spirals",))
    shared["spirals"][3] = noise(8, 3, ("stripes", "dots"))["dots"][2]
    pack_set(root, "same-image", shared)
    shutil.copytree(root / "test-ood", root / "copy")
    (root / "classes.txt").write_text("".join(f"{colour} square\n" for colour in COLOURS))
    return root
