"""A tiny random CLIP as reference, with ID images near their names; streams of images, some near words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import normalize

from mmood.encoders.vision_language import VisionLanguageEncoder
from mmood.scores.base import Bank, Embedded, Reference

NAMES = ("red square", "green circle", "old dog", "small boat")
WORDS = tuple(
    f"{kind} {thing}" for kind in ("wet", "hot", "far") for thing in ("sea", "hill", "bread", "noise", "road")
)


@dataclass
class ToyReference(Reference):
    """The text side of a real encoder; the ID images are given embeddings."""

    class_names: Sequence[str]
    encoder: VisionLanguageEncoder
    shots: int = 16
    spread: float = 3.0
    asked: str = ""

    @property
    @torch.no_grad()
    def prototypes(self) -> Tensor:
        return self.encode_text([f"The nice {name}." for name in self.class_names])

    def identity(self) -> dict[str, object]:
        return {"name": "toy", "weights_sha256": self.encoder.weights_hash()}

    def heads(self) -> tuple[()]:
        return ()

    def bank(self, shots: int | None = None, transform: str = "eval") -> Bank:
        self.asked = f"{shots} {transform}"
        labels = torch.arange(self.shots * len(self.class_names)) % len(self.class_names)
        embedding = near(self.prototypes[labels], self.spread, seed=7)
        keys = torch.arange(len(labels))
        return Bank(torch.empty(len(labels), 0), labels, keys, embedding, {"set": "toy"})


def near(centres: Tensor, spread: float, seed: int) -> Tensor:
    """Return unit vectors at about the angle atan(spread) from centres."""
    noise = torch.randn(centres.shape, generator=torch.Generator().manual_seed(seed))
    return normalize(centres + spread * normalize(noise, dim=-1), dim=-1)


@torch.no_grad()
def stream(reference: ToyReference, sizes: Sequence[int], seed: int = 0, ood: float = 0.5) -> list[Embedded]:
    """Return batches of images near class names, and, with probability `ood`, near words."""
    names, words = reference.prototypes, reference.encode_text([f"a photo of a {word}." for word in WORDS])
    generator = torch.Generator().manual_seed(seed)
    batches = []
    for number, size in enumerate(sizes):
        is_ood = torch.rand(size, generator=generator) < ood
        centres = torch.where(
            is_ood[:, None],
            words[torch.randint(len(words), (size,), generator=generator)],
            names[torch.randint(len(names), (size,), generator=generator)],
        )
        embedding = near(centres, 0.5, seed=1000 * seed + number)
        logits, side = torch.empty(size, len(names)), reference.image_size[0]
        pixels = partial(pictures, size, side, 1000 * seed + number)
        batches.append(Embedded(torch.empty(size, 0), logits, embedding, pixels=pixels))
    return batches


def pictures(size: int, side: int, seed: int, rows: Tensor) -> Tensor:
    """Return some of `size` random inputs of the image tower, each of one colour."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(size, 3, 1, 1, generator=generator).expand(-1, -1, side, side)[rows]


def log_odds(images: Tensor, names: Tensor, negatives: Tensor, groups: int, temperature: float = 0.01) -> Tensor:
    """Return the logit of NegLabel's S in float64: a softmax over names and each group."""
    kept = torch.randperm(len(negatives) - len(negatives) % groups, generator=torch.Generator().manual_seed(0))
    images, names, negatives = images.double(), names.double(), negatives.double()[kept]
    inside, outside = [], []
    for group in negatives.split(len(negatives) // groups):
        log_p = (images @ torch.cat([names, group]).T / temperature).log_softmax(-1)
        inside.append(log_p[:, : len(names)].logsumexp(-1))
        outside.append(log_p[:, len(names) :].logsumexp(-1))
    return torch.stack(inside).logsumexp(0) - torch.stack(outside).logsumexp(0)


def run(score, batches: Sequence[Embedded]) -> list[Tensor]:
    """Return the scores of a whole stream, as a runner gets them."""
    score.reset(0)
    return [score.step(batch) for batch in batches]
