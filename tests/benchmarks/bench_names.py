"""What the prototypes of up to a million names, and scores over them, cost: `python tests/benchmarks/bench_names.py`.

Random unit vectors of 512 columns stand for the prototypes: a table of them is filled as the encoder fills it, mapped
from 256 MiB on, and MaxLogit, MCM, Energy and GEN score a batch of 64 images in parts. For each size: CPU seconds of both,
the memory that both add at their peak, pages of the file among it, which the system may drop. The last lines are slopes
on a log-log plot.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections.abc import Iterator

import torch
from bench_negatives import added_mib
from growth import slope
from torch.nn.functional import normalize

from mmood.encoders.large_tables import filled
from mmood.scores import GEN, MCM, Embedded, Energy, MaxLogit

WIDTH, IMAGES, BLOCK = 512, 64, 4096


def blocks(names: int) -> Iterator[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    for start in range(0, names, BLOCK):
        yield normalize(torch.randn(min(BLOCK, names - start), WIDTH, generator=generator), dim=1)


def costs(names: int) -> tuple[float, float, float]:
    """Return the CPU seconds of filling and of scoring, and the MiB that both add at their peak."""
    torch.set_num_threads(1)
    images = normalize(torch.randn(IMAGES, WIDTH, generator=torch.Generator().manual_seed(1)), dim=1)
    times: list[float] = []

    def work() -> None:
        start = time.process_time()
        prototypes = filled(blocks(names), names, WIDTH, images.device)
        times.append(time.process_time() - start)
        start = time.process_time()
        batch = Embedded(images, images @ prototypes.T)
        for part in batch.parts():
            for score in (MaxLogit(), MCM(), Energy(), GEN()):
                score(part)
        times.append(time.process_time() - start)

    added = added_mib(work)
    return times[0], times[1], added


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--names", type=int, default=1_000_000)
    most = parser.parse_args().names
    sizes = [20_000, *(most // 2**power for power in (3, 2, 1, 0))]
    found = []
    for names in sizes:
        with multiprocessing.get_context("fork").Pool(1) as pool:
            found.append(pool.apply(costs, (names,)))
        fill, batch, mib = found[-1]
        print(f"{names:,} names: filled in {fill:.1f} s, a batch in {batch:.2f} s, {mib:.0f} MiB", flush=True)
    for place, what in enumerate(("filling", "scoring", "memory")):
        print(f"{what}: slope {slope(sizes, [each[place] for each in found]):.2f}")


if __name__ == "__main__":
    main()
