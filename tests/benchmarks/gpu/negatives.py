"""NegLabel with 10,000 negative labels in 100 groups, against the bare matrix product."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn.functional import normalize

from gpu.clock import DEVICE, in_turn, peak_gib
from mmood.scores.functional_negatives import neglabel_log_odds


@dataclass(frozen=True)
class Size:
    """Images, ID classes, negative labels, their groups, and the width."""

    images: int = 50_000
    classes: int = 1_000
    negatives: int = 10_000
    groups: int = 100
    width: int = 512


TINY = Size(20, 4, 12, 3, 8)


def measure(size: Size) -> dict[str, object]:
    """Return seconds of the score and of the product, and the peak memory."""
    counts = (size.images, size.classes, size.negatives)
    images, names, words = (normalize(torch.randn(count, size.width, device=DEVICE), dim=-1) for count in counts)
    texts = torch.cat([names, words])

    def score() -> torch.Tensor:
        return neglabel_log_odds(images, names, words, 0.01, size.groups)

    def product() -> None:
        for rows in images.split(8192):
            rows @ texts.T

    taken = in_turn({"score": score, "product": product})
    return {
        "images": size.images,
        "classes": size.classes,
        "negatives": size.negatives,
        "groups": size.groups,
        "width": size.width,
        "seconds": taken,
        "peak_gib": peak_gib(score),
    }


def lines(found: dict, ceilings: dict) -> list[str]:
    """Return the section."""
    taken = found["seconds"]
    work = 2 * found["images"] * (found["classes"] + found["negatives"]) * found["width"]
    return [
        "## NegLabel",
        "",
        f"{found['images']:,} embeddings of {found['width']} dimensions, {found['classes']:,} classes, "
        f"{found['negatives']:,} negative labels in {found['groups']} groups: {1000 * taken['score']:,.0f} ms, "
        f"{found['images'] / taken['score'] / 1e6:,.2f} million images/s, {taken['score'] / taken['product']:.2f} times the "
        f"bare float32 product, {work / taken['score'] / ceilings['fp32']:.0%} of the float32 rate; "
        f"{found['peak_gib']:.2f} GiB beyond the inputs. The bound is the product, then the card's memory, through which "
        "the exponentials pass.",
    ]
