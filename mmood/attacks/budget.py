"""How far an attack may move an image: a ball around it in pixel values of [0, 1], and what is left of it in 8 bits."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

Images = Float[Tensor, "batch 3 height width"]
Levels = Int[Tensor, "batch 3 height width"]
Norm = Literal["linf", "l2"]
NORMS: tuple[Norm, ...] = ("linf", "l2")
LEVELS = 255
"""The largest value of an 8-bit pixel."""


@final
@dataclass(frozen=True)
class Budget:
    """A ball, of which the part inside [0, 1] may be searched.

    Attributes:
        norm: `linf`, the largest change of a value, or `l2`, the length of all changes of an image.
        eps: its radius for values in [0, 1]; a fraction, so that 4/255 is exactly four levels of an 8-bit image.
    """

    norm: Norm
    eps: Fraction

    @property
    def radius(self) -> float:
        """The radius as a number."""
        return float(self.eps)

    def project(self, images: Images, clean: Images) -> Images:
        """Return the images moved into the ball around the clean ones, and into [0, 1].

        Clean values lie in [0, 1], so clamping to it only shortens a change.
        """
        change = images - clean
        if self.norm == "linf":
            return (clean + change.clamp(-self.radius, self.radius)).clamp(0, 1)
        length = _lengths(change)
        return (clean + change * (self.radius / length.clamp_min(self.radius or 1.0))).clamp(0, 1)

    def steepest(self, gradient: Images) -> Images:
        """Return the direction of unit norm in which a value rises fastest: the sign, or the normalised gradient."""
        if self.norm == "linf":
            return gradient.sign()
        return gradient / _lengths(gradient).clamp_min(torch.finfo(gradient.dtype).tiny)

    def start(self, clean: Images, noise: Images) -> Images:
        """Return x + eps u / |u| inside [0, 1], where AutoAttack begins (arXiv 2003.01690).

        Args:
            clean: x.
            noise: u, uniform in [-1, 1] for `linf` and Gaussian for `l2`.
        """
        size = noise.flatten(1).abs().amax(dim=1)[:, None, None, None] if self.norm == "linf" else _lengths(noise)
        return (clean + self.radius * noise / size).clamp(0, 1)

    def quantised(self, images: Images, clean: Levels) -> Levels:
        """Return the images in levels of 8 bits, still inside the ball around the clean ones.

        Each value goes to the nearest level. Under `linf` a change is cut to the whole levels that the radius holds.
        Under `l2` rounding may lengthen the change: then values that were rounded away from the clean image go back by
        a level, those that were rounded furthest first, until the length fits; at the latest when all have.
        """
        wanted = LEVELS * images.double() - clean
        change = wanted.round()
        if self.norm == "linf":
            most = math.floor(LEVELS * self.eps)
            change = change.clamp(-most, most)
        else:
            change = self._shortened(change.flatten(1), wanted.flatten(1)).view_as(change)
        return clean + change.to(clean.dtype)

    def holds(self, images: Levels, clean: Levels) -> Tensor:
        """Return for each 8-bit image whether it lies in the ball around the clean one, in exact arithmetic."""
        change = (images.long() - clean.long()).flatten(1)
        if self.norm == "linf":
            return change.abs().amax(dim=1) <= math.floor(LEVELS * self.eps)
        return change.square().sum(dim=1) <= self._largest_square

    @property
    def _largest_square(self) -> int:
        """The largest square of a length, in levels, inside an L2 ball."""
        return math.floor((LEVELS * self.eps) ** 2)

    def _shortened(self, change: Float[Tensor, "batch values"], wanted: Float[Tensor, "batch values"]) -> Tensor:
        outwards = change.abs() - wanted.abs()
        order = outwards.argsort(dim=1, descending=True, stable=True)
        # One level less of n saves n^2 - (n - 1)^2.
        saves = torch.where(outwards > 0, 2 * change.abs() - 1, 0.0).gather(1, order)
        saved_before = saves.cumsum(dim=1) - saves
        excess = change.square().sum(dim=1, keepdim=True) - self._largest_square
        back = ((saved_before < excess) & (saves > 0)).double()
        return change - change.sign() * torch.zeros_like(change).scatter(1, order, back)


def levels_of(images: Images) -> Levels:
    """Return 8-bit images, whose values are k / 255, as the levels k."""
    return (LEVELS * images).round().to(torch.int16)


def _lengths(change: Images) -> Float[Tensor, "batch 1 1 1"]:
    lengths: Tensor = torch.linalg.vector_norm(change.flatten(1), dim=1)[:, None, None, None]
    return lengths
