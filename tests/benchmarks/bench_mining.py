"""Mining's quantile against the bare matrix product, in one run: `python tests/benchmarks/bench_mining.py`.

70,000 words and 1,000 classes in 512 dimensions, quantile 0.95, beside other exact ways to find the two order
statistics that it lies between (timed on a tenth of the words). CPU time, one thread.
"""

from __future__ import annotations

import numpy as np
import torch
from bench_negatives import added_mib, best
from torch.nn.functional import normalize

from mmood.words.criteria import quantile_similarity


def main() -> None:
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    words, names = (normalize(torch.randn(n, 512, generator=generator), dim=-1) for n in (70_000, 1_000))
    memory = added_mib(lambda: quantile_similarity(words, names))
    found = quantile_similarity(words, names)
    product = torch.empty(len(words), len(names))
    tenth = words[:7000] @ names.T
    times = best(
        {
            "product": lambda: torch.mm(words, names.T, out=product),
            "quantile_similarity": lambda: quantile_similarity(words, names),
            "selection alone, numpy partition": lambda: np.partition(tenth.numpy(), 949, axis=-1),
            "selection alone, torch topk": lambda: tenth.topk(51, sorted=False),
            "selection alone, torch sort": lambda: tenth.sort(),
            "selection alone, torch kthvalue": lambda: (tenth.kthvalue(950), tenth.kthvalue(951)),
            "selection alone, torch quantile": lambda: tenth.quantile(0.95, dim=-1),
        },
        rounds=3,
    )
    print(f"bare product {times['product'] * 1e3:.0f} ms; quantile_similarity adds {memory:.0f} MiB")
    for name, seconds in list(times.items())[1:]:
        scale = 10 if name.startswith("selection") else 1
        print(f"{name}: {scale * seconds / times['product']:.2f} times the product")
    gap = (found[:7000] - tenth.quantile(0.95, dim=-1)).abs().max()
    print(f"largest difference from torch.quantile: {gap:.1e}")


if __name__ == "__main__":
    main()
