"""What two processes hold at the end of an evaluation: `python tests/benchmarks/bench_ranks.py [--images N]`.

The sizes double. `collected` brings the rows of all images to the main process alone, as an evaluation does; `gathered`
brings them to both. Printed is what either process takes at its peak beyond its own rows, and the slope of that on a
log-log plot over the images. Two scores, gloo.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
from functools import partial

import torch
from bench_negatives import added_mib
from growth import slope

from mmood.evaluation.store import ScoreStore

NAMES, RANKS, BLOCK = ("first", "second"), 2, 8192


def one_rank(rank: int, way: str, images: int, folder: str) -> float:
    """Evaluate every second block of a set; return the MiB that bringing all rows together takes."""
    meeting = f"file://{folder}/{way}-{images}"
    torch.distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=RANKS)
    store = ScoreStore("set", NAMES)
    for start in range(rank * BLOCK, images, RANKS * BLOCK):
        key = torch.arange(start, min(start + BLOCK, images))
        store.update(key, key % 10, key % 10, torch.randn(len(key), len(NAMES)))
    together = {"collected": store.collected, "gathered": store.gathered}[way]
    taken = added_mib(lambda: together(images))
    torch.distributed.destroy_process_group()
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1_600_000)
    sizes = [parser.parse_args().images // 2**power for power in reversed(range(4))]
    found: dict[str, list[list[float]]] = {"collected": [], "gathered": []}
    with tempfile.TemporaryDirectory() as folder:
        for images in sizes:
            for way, taken in found.items():
                with multiprocessing.get_context("fork").Pool(RANKS, maxtasksperchild=1) as pool:
                    taken.append(pool.map(partial(one_rank, way=way, images=images, folder=folder), range(RANKS), 1))
    for way, taken in found.items():
        for name, mib in zip(("main process", "the other"), zip(*taken, strict=True), strict=True):
            each = ", ".join(f"{images:,}: {one:.0f}" for images, one in zip(sizes, mib, strict=True))
            print(
                f"{way}, {name}: MiB at {each}; {mib[-1] * 2**20 / sizes[-1]:.0f} bytes an image, slope {slope(sizes, list(mib)):.2f}"
            )


if __name__ == "__main__":
    main()
