"""Tuning without OoD images: some ID classes are left out in turn and stand for OoD."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mmood.errors import MmoodError
from mmood.scores.base import Bank, Embedded, LinearHead, Reference
from mmood.scores.descriptors import LocalDescriptors
from mmood.shards.hashes import digest

FOLDS = 5


def class_folds(classes: int, folds: int = FOLDS, seed: int = 0) -> list[Int[Tensor, " left_out"]]:
    """Return which classes each fold leaves out: every class once, sizes equal to one, drawn by the seed.

    Args:
        classes: C.
        folds: at most so many; no fold leaves fewer than two classes as ID.
        seed: of the draw, which is the same on every machine.

    Raises:
        MmoodError: there are fewer than three classes.

    >>> [fold.tolist() for fold in class_folds(4, folds=2)]
    [[0, 2], [1, 3]]
    """
    if classes < 3:
        raise MmoodError(f"--criterion held_out_classes leaves out ID classes, and with {classes} too few remain.")
    order = sorted(range(classes), key=lambda number: digest(seed, number))
    parts = min(folds, classes)
    return [torch.tensor(sorted(order[part::parts])) for part in range(parts)]


@final
class WithoutClasses(Reference):
    """A reference that knows some of the ID classes only.

    Prototypes, rows of the head and bank images of the others are gone; labels count the classes that are left. The
    encoder, and a head that was trained on all classes, have seen the others all the same.

    Args:
        whole: the reference.
        kept: classes that are left, ascending.
    """

    def __init__(self, whole: Reference, kept: Int[Tensor, " kept"]) -> None:
        self.whole = whole
        self.kept = kept
        self.encoder = whole.encoder
        self.learned = whole.learned
        self.local_head = whole.local_head
        self.class_names = [whole.class_names[number] for number in kept.tolist()]
        self._banks: dict[tuple[int | None, str, str | None], Bank] = {}

    @property
    def prototypes(self) -> Float[Tensor, "classes dim"]:
        """Unit-norm text prototypes of the classes that are left."""
        prototypes = self.whole.prototypes
        return prototypes[self.kept.to(prototypes.device)]

    def bank(
        self,
        shots: int | None = None,
        transform: Literal["eval", "train"] = "eval",
        descriptors: LocalDescriptors | None = None,
    ) -> Bank:
        """Return the ID training images of the classes that are left, in memory; the same object each time."""
        key = shots, transform, None if descriptors is None else descriptors.identity()["sha256"]
        if key not in self._banks:
            bank = self.whole.bank(shots, transform, descriptors)
            rows = torch.isin(bank.labels, self.kept).nonzero().flatten()
            kept = bank.take(rows, classes=self.kept.tolist())
            self._banks[key] = replace(kept, labels=torch.searchsorted(self.kept, kept.labels))
        return self._banks[key]

    def heads(self) -> tuple[LinearHead, ...]:
        """Return the rows of the heads for the classes that are left."""
        return tuple(
            LinearHead(head.reads, head.weight[kept], head.bias[kept])
            for head in self.whole.heads()
            for kept in [self.kept.to(head.weight.device)]
        )

    def embedded(self, batch: Embedded) -> Embedded:
        """Return images with the logits of the classes that are left."""
        return replace(batch, logits=batch.logits[:, self.kept.to(batch.logits.device)])
