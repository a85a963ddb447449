"""Scores of noisy copies of images, and their medians and bounds."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mmood.defences.certificate import certified_order, ordered_bounds
from mmood.defences.settings import SmoothingSettings

Scorer = Callable[[Float[Tensor, "images 3 height width"]], Float[Tensor, "images scores"]]
"""From images as the tower takes them to their scores."""


@dataclass(frozen=True)
class Smoother:
    """Smooths scores over Gaussian noise.

    Attributes:
        settings: noise, copies, radii.
        std: deviation of each channel by which the tower's images were divided: noise is of pixels before that.
    """

    settings: SmoothingSettings
    std: Sequence[float]

    def columns(
        self,
        scorer: Scorer,
        images: Float[Tensor, "images 3 height width"],
        keys: Int[Tensor, " images"],
        ood: bool,
    ) -> Float[Tensor, "images columns"]:
        """Return for each score the columns of `SmoothingSettings.variants`, float32; the scores one after another.

        The column of a radius has the bound in the adversary's favour where the direction lets it change such images:
        the upper one of OoD images, the lower one of ID images; elsewhere it has the smoothed score.

        Args:
            scorer: returns the scores of images.
            images: as the tower takes them.
            keys: of the images, which seed their noise.
            ood: whether these are OoD images.
        """
        ordered = self.copies(scorer, images, keys).sort(dim=0).values
        settings, median = self.settings, ordered[(len(ordered) - 1) // 2]
        changed = settings.direction in ("both", "ood-as-id" if ood else "id-as-ood")
        columns = [median]
        for radius in settings.radii:
            order = certified_order(settings.copies, settings.noise, radius, settings.alpha)
            low, high = ordered_bounds(ordered, order)
            columns.append(median if not changed else high if ood else low)
        return torch.stack(columns, dim=-1).flatten(1)

    def copies(
        self, scorer: Scorer, images: Float[Tensor, "images 3 height width"], keys: Int[Tensor, " images"]
    ) -> Float[Tensor, "copies images scores"]:
        """Return the scores of all noisy copies, one copy of every image at a time."""
        seed, std = self.settings.seed or 0, images.new_tensor(self.std)[:, None, None]
        generators = [_generator(seed, key, images.device) for key in keys.tolist()]
        scale = self.settings.noise / std
        return torch.stack(
            [scorer(images + scale * noise_of(images, generators)).float() for _ in range(self.settings.copies)]
        )


def noise_of(
    images: Float[Tensor, "images 3 height width"], generators: Sequence[torch.Generator]
) -> Float[Tensor, "images 3 height width"]:
    """Return standard normal noise in the form of images, that of each from its own generator."""
    noise = torch.empty_like(images)
    for row, generator in zip(noise, generators, strict=True):
        row.normal_(generator=generator)
    return noise


def _generator(seed: int, key: int, device: torch.device) -> torch.Generator:
    """Return a generator that depends on seed and key alone: neither batch nor rank changes an image's noise."""
    number = int.from_bytes(hashlib.sha256(f"{seed},{key}".encode()).digest()[:8], "big")
    return torch.Generator(device).manual_seed(number)
