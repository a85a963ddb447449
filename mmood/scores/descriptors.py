"""Several descriptors of an image, made of the positions of its map: what a bank can hold besides one row per image."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mmood.encoders.base import EncodedImages
from mmood.scores.functional_scales import region_descriptors

Local = Literal["feature_map", "patches"]
"""The outputs of an encoder that have a row for each position."""

LOCAL: frozenset[Local] = frozenset({"feature_map", "patches"})


@dataclass(frozen=True)
class LocalHead:
    """A trained head that each position goes through: W_2 relu(W_1 x).

    Attributes:
        first: W_1, (H, F).
        second: W_2, (D, H).
    """

    first: Float[Tensor, "hidden features"]
    second: Float[Tensor, "dim hidden"]

    def of(self, positions: Float[Tensor, "batch positions features"]) -> Float[Tensor, "batch positions dim"]:
        """Return the head's output for each position."""
        return (positions @ self.first.T).relu() @ self.second.T


@dataclass(frozen=True)
class LocalDescriptors:
    """M descriptors of an image: weighted means over its positions, divided by their norms.

    Attributes:
        reads: which positions.
        means: (M, P), the weight of each position in each descriptor.
        head: what each position goes through first; None for nothing.
    """

    reads: Local
    means: Float[Tensor, "descriptors positions"]
    head: LocalHead | None = None

    def of(self, positions: Float[Tensor, "batch positions features"]) -> Float[Tensor, "batch descriptors dim"]:
        """Return the descriptors of images, given their positions."""
        return region_descriptors(positions if self.head is None else self.head.of(positions), self.means)

    def of_encoded(self, encoded: EncodedImages) -> Float[Tensor, "batch descriptors dim"]:
        """Return the descriptors of images that were encoded with what they are made of."""
        positions = encoded.feature_map if self.reads == "feature_map" else encoded.patches
        assert positions is not None, "they were asked for"
        return self.to(positions.device).of(positions)

    def to(self, device: torch.device) -> LocalDescriptors:
        """Return the descriptors on a device."""
        head = self.head and LocalHead(self.head.first.to(device), self.head.second.to(device))
        return LocalDescriptors(self.reads, self.means.to(device), head)

    def identity(self) -> dict[str, str]:
        """Return the fingerprint: what is read, and the sha256 of means and head."""
        tensors = [self.means] if self.head is None else [self.means, self.head.first, self.head.second]
        digest = hashlib.sha256()
        for tensor in tensors:
            digest.update(str(tuple(tensor.shape)).encode() + tensor.detach().float().cpu().numpy().tobytes())
        return {"reads": self.reads, "sha256": digest.hexdigest()}
