"""What runs of three sizes cost on 1, 8 and 64 devices: `python tests/benchmarks/scale.py` prints the table of docs/scale.md.

The table is arithmetic on measured costs of one unit. Those of a device are of docs/gpu.md: an H200 with 16 cores, ViT-B/16
in bf16, images of 500 x 375 pixels. What ranks exchange and what disks take is not in it.
"""

from __future__ import annotations

from dataclasses import dataclass

FEATURES, EMBEDDING = 768, 512
NEGATIVES, SCORES = 10_000, 2
BATCH = 256

EMBEDDED = 1_491
"""Images that `mmood embed` reads, decodes and encodes in a second; the 16 cores are what it waits for."""
COMPARED = 23_692 * 1_281_167
"""Pairs of a query and a row of the bank in a second, 768 columns, float32."""
SCORED = 2_540_000 * (1_000 + NEGATIVES)
"""Pairs of an image and a text in a second, of NegLabel, 512 columns, float32."""
ROW = 16 + 4 * SCORES
"""Bytes of an image in the store of an evaluation."""
PEAK = 108
"""Bytes of an image with two scores in the main process at the end of an evaluation, measured by growth.py."""
STORED = 2 * (FEATURES + EMBEDDING) + 8 + 8
"""Bytes of an image in a feature store in half precision: features, embedding, key and label."""
PART = 2**24 * 8 * 7
"""Bytes of the tables of a part of a batch: MOST_LOGITS in float64, seven at a time (growth.py)."""


@dataclass(frozen=True)
class Size:
    """A run: test images, class names, images of the bank."""

    name: str
    images: int
    classes: int
    bank: int


SIZES = [
    Size("ImageNet-1k", 95_000, 1_000, 1_281_167),
    Size("21,841 names", 95_000, 21_841, 1_281_167),
    Size("10^8 images", 10**8, 1_000, 1_281_167),
]
DEVICES = (1, 8, 64)


@dataclass(frozen=True)
class Step:
    """Seconds on one device, bytes on the disk, bytes on each device beyond the tower, bytes in the main process."""

    name: str
    seconds: float
    disk: int
    device: int
    process: int


def steps(size: Size) -> list[Step]:
    texts = size.classes + NEGATIVES
    seconds = size.images * size.bank / COMPARED + size.images * texts / SCORED
    tables = min(PART, BATCH * size.classes * 8 * 7) + BATCH * size.classes * 4
    on_device = 2 * FEATURES * size.bank + 4 * EMBEDDING * texts + tables
    chunk = 8192 * STORED
    return [
        Step("embed the test sets", size.images / EMBEDDED, size.images * STORED, 0, chunk),
        Step("embed the bank", size.bank / EMBEDDED, size.bank * STORED, 0, chunk),
        Step("test", seconds, size.images * ROW, on_device, PEAK * size.images),
    ]


def duration(seconds: float) -> str:
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 1 else "< 1 s"


def volume(count: float) -> str:
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count / 1e3:.0f} kB" if count else "-"


def table() -> str:
    """Return the table in Markdown."""
    head = ["run", "step", *(f"{devices} device" + "s" * (devices > 1) for devices in DEVICES)]
    head += ["on the disk", "on each device, beyond the tower", "in the main process"]
    lines = ["| " + " | ".join(head) + " |", "|---|---|" + "--:|" * (len(head) - 2)]
    for size in SIZES:
        for step in steps(size):
            times = [duration(step.seconds / devices) for devices in DEVICES]
            sizes = [volume(step.disk), volume(step.device), volume(step.process)]
            lines.append("| " + " | ".join([size.name, step.name, *times, *sizes]) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
