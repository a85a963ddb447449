"""GL-MCM against the bare matrix products, and the value path against a plain pass: `python tests/benchmarks/bench_local.py`.

1,000 images of 196 patches, 1,000 classes, 512 dimensions. Wanted: at most 1.5 times the products in the same chunks, and
less than 300 MiB beyond the inputs. The direct form takes the softmax of all similarities of 50 images at once. Then a
ViT-B/16 with random weights, in one pass with and one without patches: at most one block of twelve more. Times are those of
the processor, on one thread.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable

import torch
from bench_negatives import added_mib, best
from torch import Tensor
from torch.nn.functional import normalize

from mmood.encoders import EncoderSettings, build_encoder
from mmood.scores.functional import max_softmax_log_odds
from mmood.scores.functional_local import CELLS, patch_log_odds
from mmood.scores.functional_mixtures import mean_log_odds

IMAGES, PATCHES, CLASSES, WIDTH = 1_000, 196, 1_000, 512


def inputs() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    sizes = ((IMAGES, WIDTH), (IMAGES, PATCHES, WIDTH), (CLASSES, WIDTH))
    embedding, patches, texts = (torch.randn(*size, generator=generator) for size in sizes)
    for rows in (embedding, patches, texts):
        rows.div_(rows.norm(dim=-1, keepdim=True))
    return embedding, patches, texts


def ours(embedding: Tensor, patches: Tensor, texts: Tensor) -> Tensor:
    whole = max_softmax_log_odds((embedding @ texts.T).double())
    return mean_log_odds([whole, patch_log_odds(patches, texts).amax(dim=1)], [1.0, 0.5])


def direct(embedding: Tensor, patches: Tensor, texts: Tensor) -> Tensor:
    local = torch.cat([(part @ texts.T).softmax(-1).amax(dim=(1, 2)) for part in patches.split(50)])
    return (embedding @ texts.T).softmax(-1).amax(-1) + 0.5 * local


def products(embedding: Tensor, patches: Tensor, texts: Tensor) -> None:
    classes = texts.T
    embedding @ classes
    for chunk in patches.flatten(0, 1).split(CELLS // CLASSES):
        chunk @ classes


def scores() -> None:
    given = inputs()
    calls: dict[str, Callable[[], object]] = {
        "products": lambda: products(*given),
        "ours": lambda: ours(*given),
        "direct": lambda: direct(*given),
    }
    times = best(calls, rounds=3, clock=time.process_time)
    print(f"bare products {times['products']:.2f} s")
    for name in ("ours", "direct"):
        memory = subprocess.check_output([sys.executable, __file__, name], text=True).strip()
        print(f"{name}: {times[name] / times['products']:.2f} times the products, {memory} MiB beyond the inputs")
    gap = (ours(*given).sigmoid() * 1.5 - direct(*given)).abs().max()
    print(f"largest difference of S: {gap:.1e}")


@torch.inference_mode()
def value_path() -> None:
    encoder = build_encoder(EncoderSettings("ViT-B-16", "random"))
    images = normalize(torch.randn(4, 3, 224, 224, generator=torch.Generator().manual_seed(0)), dim=1)
    times = best(
        {
            "plain": lambda: encoder.encode_image(images),
            "patches": lambda: encoder.encode_image(images, patches=True),
        },
        rounds=8,
        clock=time.process_time,
    )
    blocks = 12 * (times["patches"] / times["plain"] - 1)
    print(
        f"ViT-B/16 with patches: {times['patches'] / times['plain']:.3f} times a plain pass, {blocks:.2f} blocks more"
    )


def main() -> None:
    torch.set_num_threads(1)
    if len(sys.argv) > 1:
        given = inputs()
        given[0][:64] @ given[2].T  # the product's own workspace
        form = {"ours": ours, "direct": direct}[sys.argv[1]]
        print(f"{added_mib(lambda: form(*given)):.0f}")
        return
    scores()
    value_path()


if __name__ == "__main__":
    main()
