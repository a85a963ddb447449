"""What an evaluation step returns."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from mmood.scores.base import Embedded


@dataclass(frozen=True)
class Scored:
    """The static scores of a batch.

    Attributes:
        key: (B,) int64, as in the batch.
        label: (B,) int64, -1 for OoD.
        predicted: (B,) int64, the class with the largest logit.
        scores: (B, S) float32, a column per score in the order of `AbstractDetector.score_names`.
    """

    key: Int[Tensor, " batch"]
    label: Int[Tensor, " batch"]
    predicted: Int[Tensor, " batch"]
    scores: Float[Tensor, "batch scores"]


@dataclass(frozen=True)
class Evaluated:
    """A batch as an evaluation step returns it; callbacks read either, and copy what they need for longer.

    Attributes:
        scored: the scores.
        embedded: what the scores were computed from.
    """

    scored: Scored
    embedded: Embedded
