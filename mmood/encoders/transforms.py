"""Image transforms that all encoders share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from PIL.Image import Image
from torch import Tensor

from mmood.encoders.base import ImageTransform
from mmood.errors import ImageError

MAX_RESIZED = 2**27
"""Pixels of an image after resizing and before cropping, at most: a line of 100,000 pixels would take 20 GB."""


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes the input of a tower.

    Attributes:
        size: (height, width) in pixels.
        mean: per channel, of values in [0, 1].
        std: per channel.
        interpolation: `bicubic` or `bilinear`, of the eval resize.
        resize_mode: `shortest` (resize the shorter side, crop the centre), `longest` (fit and pad), `squash`.
        fill: grey value of the padding of `longest`.
    """

    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    resize_mode: str
    fill: int = 0

    def identity(self) -> dict[str, str | int | None]:
        """Return the settings as flat values for a provenance record."""
        return {
            "image_size": "x".join(str(side) for side in self.size),
            "mean": numbers(self.mean),
            "std": numbers(self.std),
            "interpolation": self.interpolation,
            "resize_mode": self.resize_mode,
        }


def numbers(values: Sequence[float]) -> str:
    """Return numbers as one text, each as short as it can be written exactly.

    >>> numbers((0.5, 0.25))
    '0.5, 0.25'
    """
    return ", ".join(repr(float(value)) for value in values)


@dataclass(frozen=True)
class Limited:
    """A transform that refuses an image whose resized form would be huge, or nothing, before it takes memory for it.

    Attributes:
        transform: resizes and then crops or pads.
        size: (height, width) that one side is resized to.
        longest: whether it is the longer side, relative to `size`, and not the shorter one.
    """

    transform: ImageTransform
    size: tuple[int, int]
    longest: bool

    def __call__(self, image: Image) -> Tensor:
        """Return the transformed image; ImageError if it is too narrow for that."""
        shares = image.height / self.size[0], image.width / self.size[1]
        share = max(shares) if self.longest else min(shares)
        height, width = round(image.height / share), round(image.width / share)
        if height * width > MAX_RESIZED or not (height and width):
            raise ImageError(
                f"the image has {image.width} x {image.height} pixels and would be resized to {width} x {height}; "
                f"1 to {MAX_RESIZED} pixels are possible"
            )
        return self.transform(image)


def eval_transform(settings: Preprocessing) -> ImageTransform:
    """Return open_clip's eval transform: resize, crop or pad, to a tensor in [0, 1], normalise."""
    from open_clip import image_transform

    transform = image_transform(
        settings.size,
        is_train=False,
        mean=settings.mean,
        std=settings.std,
        resize_mode=settings.resize_mode,
        interpolation=settings.interpolation,
        fill_color=settings.fill,
    )
    if settings.resize_mode == "squash":
        return cast(ImageTransform, transform)
    return Limited(cast(ImageTransform, transform), settings.size, settings.resize_mode == "longest")


def train_transform(settings: Preprocessing, scale: tuple[float, float]) -> ImageTransform:
    """Return the training transform of CMA (Kim & Hwang, CVPR 2025), with the model's own mean and deviation.

    A random resized crop of a share `scale` of the area (aspect ratio 3/4 to 4/3, bicubic), no flip, normalised. It
    draws from torch's global generator, which the data loader seeds.
    """
    from open_clip import AugmentationCfg, image_transform

    transform = image_transform(
        settings.size, is_train=True, mean=settings.mean, std=settings.std, aug_cfg=AugmentationCfg(scale=scale)
    )
    return cast(ImageTransform, transform)
