"""TANL over a stream of 60,000 embeddings."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn.functional import normalize

from gpu.clock import DEVICE, once, peak_gib, shares
from mmood.scores.base import Embedded
from mmood.scores.test_time.tanl import TANL, Fitted


@dataclass(frozen=True)
class Size:
    """Images of the stream, of a batch, ID classes, mined words, width."""

    images: int = 60_000
    batch: int = 256
    classes: int = 1_000
    words: int = 10_000
    width: int = 512


TINY = Size(40, 8, 4, 1_200, 8)


def measure(size: Size) -> dict[str, object]:
    """Return seconds, peak memory, and what the device does in a step."""
    generator = torch.Generator(DEVICE).manual_seed(0)

    def unit(count: int) -> torch.Tensor:
        return normalize(torch.randn(count, size.width, device=DEVICE, generator=generator), dim=-1)

    texts = unit(size.classes + size.words)
    # Half of the images near a class, half near a word, so that gates open and queues fill.
    near = torch.randint(len(texts), (size.images,), device=DEVICE, generator=generator)
    is_id = torch.rand(size.images, device=DEVICE, generator=generator) < 0.5
    near = torch.where(is_id, near % size.classes, size.classes + near % size.words)
    images = normalize(texts[near] + 1.5 * unit(size.images), dim=-1)
    score = TANL()
    none = texts.new_empty(0)
    score.fitted_ = Fitted(texts, size.classes, size.words, none.view(0, size.words), none)
    batches = [Embedded(rows, rows, rows) for rows in images.split(size.batch)]

    def stream() -> None:
        score.reset()
        for batch in batches:
            score.step(batch)

    score.reset()
    score.step(batches[0])
    taken, peak = once(stream), peak_gib(stream)
    return {
        "images": size.images,
        "batch": size.batch,
        "classes": size.classes,
        "words": size.words,
        "seconds": taken,
        "peak_gib": peak,
        "counts": score.counts(),
        "shares": shares(lambda: score.step(batches[1])),
    }


def lines(found: dict) -> list[str]:
    """Return the section."""
    steps = -(-found["images"] // found["batch"])
    kept = found["counts"]
    spent = ", ".join(f"{kind} {share:.0%}" for kind, share in found["shares"].items() if share >= 0.005)
    return [
        "## A test stream: TANL",
        "",
        f"{found['images']:,} embeddings in batches of {found['batch']}, {found['classes']:,} classes, {found['words']:,} words: "
        f"{found['seconds']:.1f} s, {1000 * found['seconds'] / steps:.1f} ms a step, "
        f"{found['images'] / found['seconds']:,.0f} images/s, {found['peak_gib']:.2f} GiB beyond the inputs "
        f"({kept['gated_id']:,} and {kept['gated_ood']:,} images passed the gates). Of a step: {spent}. The bound is the host: "
        "Otsu's threshold sorts the history in float64 on the CPU before the next batch can be gated.",
    ]
