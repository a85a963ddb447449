"""A folder of images beside a zip file and shards of the same images: indexing, opening again, reading, memory.

    python tests/benchmarks/bench_folders.py [FILES [BYTES]]      (by default 200,000 files of about 3,000 bytes)

The files are written to a temporary folder and deleted. Reading is without decoding, from the page cache, in one
process; seconds are those of the CPU, since the wall clock of a shared machine says little.
"""

from __future__ import annotations

import contextlib
import io
import os
import resource
import shutil
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from mmood.sets.finding import find_set
from mmood.shards.index import SetIndex
from mmood.shards.inputs import from_folder
from mmood.shards.packing import PackSettings, pack

CLASSES = 100


def write_images(folder: Path, files: int, size: int) -> None:
    """Write small JPEG files of noise, each different, about `size` bytes long."""
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)).save(buffer, "JPEG")
    image = buffer.getvalue() + bytes(max(0, size - buffer.tell()))
    for number in range(files):
        path = folder / f"class-{number % CLASSES:03}" / f"{number:07}.jpg"
        if number < CLASSES:
            path.parent.mkdir(parents=True)
        path.write_bytes(image + number.to_bytes(4, "big"))


@contextlib.contextmanager
def measured(what: str, files: int) -> Iterator[None]:
    """Print the time of the block and the most memory that the process has held."""
    wall, used = time.perf_counter(), time.process_time()
    yield
    wall, used = time.perf_counter() - wall, time.process_time() - used
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    print(
        f"{what:32} {used:7.2f} s CPU  {wall:7.2f} s wall  {files / used:9,.0f} files/s  peak {peak:6,.0f} MiB",
        flush=True,
    )


def read_all(index: SetIndex, files: int) -> None:
    """Read every sample, and count them."""
    assert sum(1 for _ in index.read(index.keys(), skip=False)) == files


def zipped(folder: Path, target: Path) -> None:
    """Write the folder as a zip file, as zip programs do with images: stored."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(folder.rglob("*.jpg")):
            archive.write(path, str(path.relative_to(folder)))


def main(files: int, size: int) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as base:
        work = Path(base)
        os.environ["MMOOD_CACHE"] = str(work / "cache")
        write_images(work / "images", files, size)
        found: dict[str, Callable[[], SetIndex]] = {
            "folder": lambda: find_set("data", f"folder:{work / 'images'}"),
            "zip": lambda: find_set("data", f"zip:{work / 'images.zip'}"),
            "shards": lambda: find_set("data", str(work / "packed")),
        }
        with measured("folder: index (first use)", files):
            found["folder"]()
        kept = sum(path.stat().st_size for path in (work / "cache").rglob("*.safetensors"))
        print(f"{'':32} the index has {kept / 2**20:.1f} MiB")
        with measured("folder: open again", files):
            found["folder"]()
        with measured("folder: read", files):
            read_all(found["folder"](), files)
        zipped(work / "images", work / "images.zip")
        with measured("zip: index (first use)", files):
            found["zip"]()
        with measured("zip: read", files):
            read_all(found["zip"](), files)
        with measured("shards: pack, each image decoded", files):
            pack(from_folder(work / "images"), work / "packed", PackSettings(), lambda _: None)
        shutil.rmtree(work / "images")
        with measured("shards: read", files):
            read_all(found["shards"](), files)


if __name__ == "__main__":
    main(*(int(argument) for argument in [*sys.argv[1:3], *("200000", "3000")[len(sys.argv[1:3]) :]]))
