"""The ID side without some of its training images: those that manipulated images were moved to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, final

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from mmood.scores.base import Bank, LinearHead, Reference
from mmood.scores.descriptors import LocalDescriptors
from mmood.scores.neighbours import KNN


@final
class WithoutImages(Reference):
    """A reference whose bank lacks some images, in memory.

    Args:
        whole: the reference.
        removed: keys of the training images that are gone.
    """

    def __init__(self, whole: Reference, removed: Int64[Tensor, " removed"]) -> None:
        self.whole = whole
        self.removed = removed
        self.encoder = whole.encoder
        self.learned = whole.learned
        self.local_head = whole.local_head
        self.class_names = whole.class_names

    @property
    def prototypes(self) -> Float[Tensor, "classes dim"]:
        """Unit-norm text prototypes of the ID classes."""
        return self.whole.prototypes

    def bank(
        self,
        shots: int | None = None,
        transform: Literal["eval", "train"] = "eval",
        descriptors: LocalDescriptors | None = None,
    ) -> Bank:
        """Return the ID training images that are left."""
        bank = self.whole.bank(shots, transform, descriptors)
        rows = (~torch.isin(bank.keys, self.removed)).nonzero().flatten()
        return bank.take(rows, removed=len(bank.keys) - len(rows))

    def heads(self) -> tuple[LinearHead, ...]:
        """Return the trained heads."""
        return self.whole.heads()


def without_targets(
    scores: Mapping[str, object], reference: Reference, removed: Int64[Tensor, " removed"]
) -> dict[str, KNN]:
    """Return every KNN of some scores again, fitted without the removed images, by the name that results have."""
    fewer = WithoutImages(reference, removed)
    return {
        f"{name} (targets removed)": KNN(score.k, score.reads, score.average, score.shots, score.search).fit(fewer)
        for name, score in scores.items()
        if isinstance(score, KNN)
    }
