"""A score of one's own, on patches: named in a config as `own_score.SharpestPatch`, nothing else is needed.

mmood test --config vitb16_zeroshot.yaml ... --model.scores.sharpest own_score.SharpestPatch
"""

from __future__ import annotations

from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor

from mmood import AbstractScore, Embedded, MmoodError, Reference


def sharpest_patch(
    patches: Float[Tensor, "batch patches dim"], prototypes: Float[Tensor, "classes dim"], temperature: float
) -> Float[Tensor, " batch"]:
    """Return max over patches p and classes c of the log-probability of c under softmax(cos(p, .) / T)."""
    return (patches @ prototypes.T / temperature).log_softmax(dim=-1).amax(dim=(1, 2))


class SharpestPatch(AbstractScore):
    """The log-probability of the class that one patch shows most clearly, in (-inf, 0].

    Args:
        temperature: divides the cosine.
    """

    needs = frozenset({"patches"})
    prototypes_: Tensor | None = None

    def __init__(self, temperature: float = 0.01) -> None:
        super().__init__()
        if not temperature > 0:
            raise MmoodError(f"SharpestPatch.temperature is {temperature}; it must be greater than 0.")
        self.temperature = temperature

    def fit(self, reference: Reference) -> Self:
        """Take the text prototypes of the ID classes."""
        self.prototypes_ = reference.prototypes
        return self

    def forward(self, embedded: Embedded) -> Float[Tensor, " batch"]:
        """Return the score of each image."""
        if self.prototypes_ is None or embedded.patches is None:
            raise MmoodError("SharpestPatch is asked before it was fitted, or the encoder gives no patches.")
        with torch.no_grad():
            return sharpest_patch(embedded.patches, self.prototypes_.to(embedded.patches), self.temperature)
