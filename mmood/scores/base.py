"""The contract of a score: what it reads (`Embedded`), what it may know (`Reference`), what it returns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, Self

from jaxtyping import Float
from torch import Tensor, nn

Part = Literal["features", "embedding", "logits", "patches"]


@dataclass(frozen=True)
class Embedded:
    """What a module makes of a batch of images; every tensor is float32.

    Attributes:
        features: (B, F) output of the image tower before the projection into the joint space.
        logits: (B, C) of the module's head; raw cosines where the head is a set of text prototypes.
        embedding: (B, D) projected and of unit L2 norm, or None for an image-only encoder.
        patches: (B, P, D) unit-norm local embeddings, or None if no score asked for them.
    """

    features: Float[Tensor, "batch features"]
    logits: Float[Tensor, "batch classes"]
    embedding: Float[Tensor, "batch dim"] | None = None
    patches: Float[Tensor, "batch patches dim"] | None = None


class Reference(Protocol):
    """What a score may know about the ID side when it is fitted; never a label of an OoD test image."""

    @property
    def class_names(self) -> Sequence[str]:
        """The C names of the ID classes, in the order of the labels."""

    @property
    def prototypes(self) -> Float[Tensor, "classes dim"]:
        """Unit-norm text prototypes of the ID classes, on the device of the module."""

    def encode_text(self, texts: Sequence[str]) -> Float[Tensor, "texts dim"]:
        """Return unit-norm float32 embeddings of whole texts (no template is applied), on the module's device."""


class AbstractScore(nn.Module, ABC):
    """A score of images, higher = more in-distribution.

    A subclass stores its settings in `__init__`, learns in `fit` (under names that end in `_`) and maps `Embedded` to
    (B,) float32 in `forward`, on a scale that its docstring states. Probability-like scores return their log-odds, so
    that nothing saturates into ties.
    """

    needs: frozenset[Part] = frozenset({"logits"})
    """The parts of `Embedded` that `forward` reads."""

    def fit(self, reference: Reference) -> Self:
        """Learn what the score needs of the ID side; called at the start of every evaluation. Returns self."""
        return self

    @abstractmethod
    def forward(self, embedded: Embedded) -> Float[Tensor, " batch"]:
        """Return the scores of a batch, float32, higher = more in-distribution."""

    def settings(self) -> dict[str, object]:
        """Return what a reader must know to compute the same number (temperature, prompts, list hashes)."""
        return {}
