"""The sums behind NegLabel's S, kept so that S with some texts in other places costs little more than these texts."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import final

import torch
from jaxtyping import Float, Int64
from torch import Tensor

LEAST, MOST = 1e-30, 1e30
"""A sum of exponentials within these has all its digits in float32."""


@final
@dataclass(frozen=True)
class SoftmaxMasses:
    """exp(logit) of every image and text, in segments: the ID names, then each group of negatives.

    Attributes:
        logits: (B, T) cosines divided by the temperature, the C ID names first, then M negatives in G equal runs.
        sizes: C, then M / G for each of the G groups.
        top: (B, 1 + G) the largest logit of each segment.
        mass: (B, T) exp(logit - top of its segment).
    """

    logits: Float[Tensor, "batch texts"]
    sizes: list[int]
    top: Float[Tensor, "batch segments"]
    mass: Float[Tensor, "batch texts"]

    @classmethod
    def of(cls, logits: Float[Tensor, "batch texts"], classes: int, groups: int = 1) -> SoftmaxMasses:
        """Return the masses of C ID names and of M negatives in G groups; M is a multiple of G."""
        sizes = [classes] + groups * [(logits.shape[1] - classes) // groups]
        parts = torch.split(logits, sizes, dim=1)
        top = torch.stack([part.amax(-1) for part in parts], dim=-1)
        mass = torch.empty_like(logits)
        for part, largest, target in zip(parts, top.unbind(-1), torch.split(mass, sizes, dim=1), strict=True):
            torch.sub(part, largest.unsqueeze(-1), out=target)
        return cls(logits, sizes, top, mass.exp_())

    def log_sums(self) -> Float[Tensor, "batch segments"]:
        """Return log sum exp(logit) over each segment."""
        sums = torch.stack([part.sum(-1) for part in torch.split(self.mass, self.sizes, dim=1)], dim=-1)
        return self.top + sums.log()

    def log_sums_with(
        self, texts: Int64[Tensor, " some"], logits: Float[Tensor, "some batch"]
    ) -> Float[Tensor, "batch segments"]:
        """Return the same where some texts have other logits, without a second look at those of the rest.

        Args:
            texts: places among the T texts, rising.
            logits: their logits, a row for each.
        """
        staying = torch.split(self.mass.new_ones(self.mass.shape[1]).index_fill_(0, texts, 0.0), self.sizes)
        parts = torch.split(self.mass, self.sizes, dim=1)
        sums = torch.stack([part @ stays for part, stays in zip(parts, staying, strict=True)])
        ends = torch.searchsorted(texts, torch.tensor(self.sizes, device=texts.device).cumsum(0)).tolist()
        counts = [end - start for start, end in pairwise([0, *ends])]
        came = torch.split(logits, counts)
        # Segment by segment: `index_add_` adds in any order on a GPU, so that no two runs would be the same.
        sums += torch.stack([(part - top).exp_().sum(0) for part, top in zip(came, self.top.unbind(-1), strict=True)])
        found = self.top + sums.log().T
        # Where all that counts now is far from what was the largest, digits are lost: these images are done anew.
        lost = ~((sums > LEAST) & (sums < MOST)).all(dim=0)
        if lost.any():
            anew = self.logits[lost].index_copy(1, texts, logits.T[lost])
            found[lost] = SoftmaxMasses.of(anew, self.sizes[0], len(self.sizes) - 1).log_sums()
        return found
