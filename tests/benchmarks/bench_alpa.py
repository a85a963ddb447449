"""ALPA against the matrix products of its formula: `python tests/benchmarks/bench_alpa.py`.

128 images of 16 positions, queries, keys and values of 80 dimensions. The products are the attention q k^T of all pairs of
positions and its product with the values, forward and backward. Wanted: at most 1.5 times these products. The direct form
holds the rearranged values of all pairs; its memory and ours are those beyond the inputs, forward and backward.
Times are those of the processor, on one thread.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable

import torch
from bench_negatives import added_mib, best
from torch import Tensor
from torch.nn.functional import cosine_similarity

from mmood.losses import aligned_similarities, alpa_loss, supervised_contrastive_loss

IMAGES, POSITIONS, WIDTH = 128, 16, 80
LABELS = torch.arange(IMAGES) // 2 % 10


def inputs() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(IMAGES, POSITIONS, WIDTH, generator=generator).requires_grad_() for _ in range(3)]


def rearranged(queries: Tensor, keys: Tensor, values: Tensor, scores: Callable[[Tensor], Tensor]) -> Tensor:
    """Return (N, N P, e): for each image b, its values as each position of every image asks for them."""
    attention = scores((queries.flatten(0, 1) @ keys.flatten(0, 1).T).view(-1, IMAGES, POSITIONS))
    return attention.transpose(0, 1) @ values


def products(queries: Tensor, keys: Tensor, values: Tensor) -> None:
    found = rearranged(queries, keys, values, lambda scores: scores)
    found.backward(torch.ones_like(found))


def direct_similarities(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    found = rearranged(queries / WIDTH**0.5, keys, values, lambda scores: scores.softmax(dim=-1))
    cosines = cosine_similarity(values.flatten(0, 1), found, dim=-1).view(IMAGES, IMAGES, POSITIONS).mean(dim=-1)
    return cosines + cosines.T


def direct(queries: Tensor, keys: Tensor, values: Tensor) -> None:
    supervised_contrastive_loss(10 * direct_similarities(queries, keys, values), LABELS).backward()


def ours(queries: Tensor, keys: Tensor, values: Tensor) -> None:
    alpa_loss(queries, keys, values, LABELS).backward()


def main() -> None:
    torch.set_num_threads(1)
    given = inputs()
    forms = {"ours": ours, "direct": direct, "products": products}
    if len(sys.argv) > 1:
        small = [torch.randn(2, 3, 4, requires_grad=True) for _ in range(3)]
        alpa_loss(*small, torch.tensor([0, 0])).backward()  # what autograd itself takes at its first use
        print(f"{added_mib(lambda: forms[sys.argv[1]](*given)):.0f}")
        return
    times = best({name: lambda form=form: form(*given) for name, form in forms.items()}, 7, time.process_time)
    print(f"bare products, forward and backward: {1000 * times['products']:.0f} ms")
    for name in ("ours", "direct"):
        memory = subprocess.check_output([sys.executable, __file__, name], text=True).strip()
        print(f"{name}: {times[name] / times['products']:.2f} times the products, {memory} MiB beyond the inputs")
    with torch.no_grad():
        gap = (aligned_similarities(*given) - direct_similarities(*given)).abs().max()
    print(f"largest difference of the similarities: {gap:.1e}")


if __name__ == "__main__":
    main()
