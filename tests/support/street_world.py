"""A small street: sky above road, cars as boxes, and animals, which are OoD."""

import io
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

NAMES = ["sky", "road", "car", "animal", "void"]
SIZE = (32, 48)
COLOURS = np.array([[120, 160, 230], [90, 90, 90], [200, 40, 40], [60, 160, 60], [0, 0, 0]])
SETS = {"street-train": 24, "street-val": 7, "street-test": 11}


def scene(draw: np.random.Generator, with_animal: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return pixels (H, W, 3) and labels (H, W)."""
    height, width = SIZE
    labels = np.zeros(SIZE, dtype=np.uint8)
    labels[height // 2 :] = 1
    for label in (2, 3) if with_animal else (2,):
        top, left = draw.integers(height // 2 - 4, height - 10), draw.integers(0, width - 12)
        labels[top : top + 8, left : left + 10] = label
    labels[:2] = 4
    pixels = COLOURS[labels] + draw.normal(0, 12, (*SIZE, 3))
    return pixels.clip(0, 255).astype(np.uint8), labels


def png(array: np.ndarray) -> bytes:
    """Return an array as a PNG."""
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def write_shard(path: Path, members: list[tuple[str, bytes]]) -> None:
    """Write members into a tar file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
