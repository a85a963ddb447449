"""The eval transform of a tower without torch: to the bit what open_clip and timm compute with torchvision.

The resize is Pillow's in both, the rest is one division and one subtraction and division per value in float32.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32
from PIL import Image

from mmood.errors import ImageError, MmoodError

Pixels = Float32[np.ndarray, "3 height width"]

MAX_RESIZED = 2**27
"""Pixels of an image after resizing and before cropping, at most: a line of 100,000 pixels would take 20 GB."""

_FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes the input of a tower.

    Attributes:
        size: (height, width) in pixels.
        mean: per channel, of values in [0, 1].
        std: per channel.
        interpolation: `bicubic` or `bilinear`, of the eval resize.
        resize_mode: `shortest` (resize the shorter side, crop the centre), `longest` (fit and pad), `squash`; timm's
            `center P` and `squash P` resize to the size divided by P before they crop the centre.
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

    def check(self) -> None:
        """Raise MmoodError if `pixels` cannot do this."""
        mode, _, share = self.resize_mode.partition(" ")
        square = self.size[0] == self.size[1]
        known = mode in ("longest", "squash") or (mode in ("shortest", "center") and square)
        if self.interpolation not in _FILTERS or not known or (share and not (mode in ("center", "squash") and square)):
            raise MmoodError(
                f"The transform '{self.resize_mode}, {self.interpolation}' to {self.size[0]} x {self.size[1]} pixels "
                "is only available with torch; without torch use shortest (square), longest, squash or timm's center."
            )

    def pixels(self, image: Image.Image) -> Pixels:
        """Return an RGB image resized, cropped or padded, divided by 255 and normalised."""
        # Planes first, then in place: numpy is slow where the last axis is the channels.
        planes = np.asarray(_fitted(self, image)).transpose(2, 0, 1).astype(np.float32, order="C")
        planes /= np.float32(255)
        planes -= np.array(self.mean, dtype=np.float32)[:, None, None]
        planes /= np.array(self.std, dtype=np.float32)[:, None, None]
        return planes


def numbers(values: Sequence[float]) -> str:
    """Return numbers as one text, each as short as it can be written exactly.

    >>> numbers((0.5, 0.25))
    '0.5, 0.25'
    """
    return ", ".join(repr(float(value)) for value in values)


def check_resized(image: Image.Image, size: tuple[int, int], longest: bool) -> None:
    """Raise ImageError if an image would be huge, or nothing, once one of its sides is resized.

    Args:
        image: before it is resized.
        size: (height, width) that one side is resized to.
        longest: whether it is the longer side, relative to `size`, and not the shorter one.
    """
    shares = image.height / size[0], image.width / size[1]
    share = max(shares) if longest else min(shares)
    height, width = round(image.height / share), round(image.width / share)
    if height * width > MAX_RESIZED or not (height and width):
        raise ImageError(
            f"the image has {image.width} x {image.height} pixels and would be resized to {width} x {height}; "
            f"only 1 to {MAX_RESIZED} pixels are possible"
        )


def _fitted(settings: Preprocessing, image: Image.Image) -> Image.Image:
    settings.check()
    height, width = settings.size
    resample = _FILTERS[settings.interpolation]
    mode, _, share = settings.resize_mode.partition(" ")
    # timm cuts its crop out of a larger square.
    target = math.floor(height / float(share)) if share else height
    if mode != "squash":
        check_resized(image, (target, target) if share else settings.size, mode == "longest")
    if mode == "squash":
        size = (target, target) if share else (width, height)
    elif mode == "longest":
        scale = max(image.height / height, image.width / width)
        size = (round(image.width / scale), round(image.height / scale))
    else:
        size = _shorter_side(image.size, target)
    resized = image if size == image.size else image.resize(size, resample)
    return _centre(resized, (width, height), settings.fill)


def _shorter_side(size: tuple[int, int], target: int) -> tuple[int, int]:
    """Return the size with the shorter side at `target`; the longer one is rounded down, as torchvision has it."""
    width, height = size
    if width <= height:
        return target, int(target * height / width)
    return int(target * width / height), target


def _centre(image: Image.Image, size: tuple[int, int], fill: int) -> Image.Image:
    """Return the middle of an image in (width, height), padded where it is smaller."""
    if image.size == size:
        return image
    short_x, short_y = max(0, size[0] - image.width), max(0, size[1] - image.height)
    if short_x or short_y:
        # The odd pixel of a padding stands on the right and below.
        padded = Image.new("RGB", (image.width + short_x, image.height + short_y), (fill, fill, fill))
        padded.paste(image, (short_x // 2, short_y // 2))
        image = padded
    left, top = round((image.width - size[0]) / 2), round((image.height - size[1]) / 2)
    return image.crop((left, top, left + size[0], top + size[1]))
