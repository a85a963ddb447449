"""References of a few rows, for tests of scores that learn from the ID bank."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from mmood.scores.base import Bank, Embedded, LinearHead, Stored


@dataclass
class FakeReference:
    """ID images as tensors; a linear head on their features, or text prototypes of their embeddings."""

    features: Tensor
    labels: Tensor
    class_names: Sequence[str]
    weight: Tensor | None = None
    bias: Tensor | None = None
    embedding: Tensor | None = None
    reads: Stored = "features"
    prototypes: Tensor = field(default_factory=lambda: torch.zeros(0, 0))

    def bank(self, shots: int | None = None, transform: str = "eval") -> Bank:
        keys = 1000 + torch.arange(len(self.labels))
        return Bank(self.features, self.labels, keys, self.embedding, {"set": "tiny"})

    def head(self) -> LinearHead | None:
        return None if self.weight is None or self.bias is None else LinearHead(self.reads, self.weight, self.bias)

    def heads(self) -> tuple[LinearHead, ...]:
        head = self.head()
        return () if head is None else (head,)

    def identity(self) -> Mapping[str, object]:
        return {}

    def encode_text(self, texts: Sequence[str], normalise: bool = True) -> Tensor:
        raise AssertionError("no score here reads texts")

    def embedded(self, features: Tensor, embedding: Tensor | None = None) -> Embedded:
        """Return test images with the logits of the head, or of the prototypes."""
        if self.weight is not None and self.bias is not None:
            rows = features if self.reads == "features" else embedding
            return Embedded(features, rows @ self.weight.T + self.bias, embedding)
        assert embedding is not None
        return Embedded(features, embedding @ self.prototypes.T, embedding)


def with_head(images: int = 90, width: int = 6, classes: int = 3, seed: int = 0) -> FakeReference:
    """Return classes around different means, of different sizes, and a head that is right on most of them."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.arange(images) % (classes + 1) % classes
    means = 2 * torch.randn(classes, width, generator=random)
    features = means[labels] + torch.randn(images, width, generator=random)
    bias = -means.square().sum(dim=1) / 2
    return FakeReference(features, labels, [f"class {c}" for c in range(classes)], means, bias)


def with_prototypes(images: int = 60, width: int = 5, classes: int = 3, seed: int = 1) -> FakeReference:
    """Return unit embeddings around text prototypes, with unrelated features."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.arange(images) % classes
    prototypes = torch.nn.functional.normalize(torch.randn(classes, width, generator=random), dim=1)
    noise = 0.5 * torch.randn(images, width, generator=random)
    embedding = torch.nn.functional.normalize(prototypes[labels] + noise, dim=1)
    names = [f"class {c}" for c in range(classes)]
    features = torch.randn(images, 7, generator=random)
    return FakeReference(features, labels, names, embedding=embedding, prototypes=prototypes)


def with_embedding_head() -> FakeReference:
    """Return unit embeddings with a trained head on them; the text prototypes are other directions."""
    reference = with_prototypes()
    random = torch.Generator().manual_seed(3)
    weight, bias = 4 * torch.randn(3, 5, generator=random), torch.randn(3, generator=random)
    return replace(reference, weight=weight, bias=bias, reads="embedding")


def queries(reference: FakeReference, count: int = 20, seed: int = 2) -> Embedded:
    """Return random images, half of them near those of the bank."""
    random = torch.Generator().manual_seed(seed)
    near = reference.features[: count // 2] + 0.1
    features = torch.cat([near, 2 * torch.randn(count - len(near), near.shape[1], generator=random)])
    if reference.embedding is None:
        return reference.embedded(features)
    embedding = torch.randn(count, reference.embedding.shape[1], generator=random)
    return reference.embedded(features, torch.nn.functional.normalize(embedding, dim=1))


def wide(tensor: Tensor) -> np.ndarray:
    """Return a tensor as float64 numpy."""
    return tensor.double().numpy()
