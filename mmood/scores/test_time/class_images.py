"""What the ID classes look like: one image proxy a class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from mmood.errors import MmoodError
from mmood.scores.bank import bank_rows
from mmood.scores.base import Reference
from mmood.settings import check_choice, check_count


@dataclass(frozen=True)
class ClassImages:
    """The images of the ID classes that stand against words.

    Attributes:
        shots: images of each class, drawn by `data.loader.seed`.
        transform: `eval`, or `train` for the training transform, as in the released code.
    """

    shots: int = 16
    transform: Literal["eval", "train"] = "eval"

    def __post_init__(self) -> None:
        check_count("images.shots", self.shots)
        check_choice("images.transform", self.transform, ("eval", "train"))


CLASS_IMAGES = ClassImages()
"""The 16 images of each class that InterNeg and TINS use."""


@torch.no_grad()
def class_proxies(reference: Reference, images: ClassImages) -> Float[Tensor, "classes dim"]:
    """Return the unit-norm mean of the unit-norm embeddings of each class's images, on the CPU.

    Raises:
        MmoodError: there is no ID training set, or a class has no image in it.
    """
    names = reference.class_names
    sums, found = torch.empty(0), torch.zeros(len(names), dtype=torch.int64)
    for labels, rows in bank_rows(reference, "embedding", shots=images.shots, transform=images.transform):
        sums = rows.new_zeros(len(names), rows.shape[1]) if len(sums) == 0 else sums
        sums.index_add_(0, labels, normalize(rows, dim=-1))
        found += labels.bincount(minlength=len(names))
    if not found.all():
        missing = names[int(found.argmin())]
        raise MmoodError(f"This score needs images of every ID class, but data.train has none of '{missing}'.")
    return normalize(sums, dim=-1)
