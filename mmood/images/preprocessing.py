"""The eval transform of a tower without torch: to the bit what open_clip and timm compute with torchvision.

The resize is Pillow's in both, the rest is one division and one subtraction and division per value in float32.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float32
from PIL import Image

from mmood.errors import ImageError, MmoodError

Pixels = Float32[np.ndarray, "3 height width"]
Resize = Literal["pillow", "torch"]
"""What resizes images: Pillow, as the papers' code does, or torch, which is faster and differs by at most 3 of 255."""
Resizer = Callable[[Image.Image, tuple[int, int], str], Image.Image]
"""From an RGB image, (width, height) and `bicubic` or `bilinear` to the resized image."""
Change = Callable[[np.ndarray], np.ndarray]
"""From (H, W, 3) pixels of 8 bits to as many."""

MAX_SIDE = 2**14
"""Pixels of a side of an input, at most, where a file of others says how large it is."""

MAX_RESIZED = 2**27
"""Pixels of an image after resizing and before cropping, at most: a line of 100,000 pixels would take 20 GB."""

_FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


@dataclass(frozen=True)
class Box:
    """A part of a picture, in pixels from its upper left corner; beyond its edges lies padding.

    Attributes:
        left, top, right, bottom: where it begins and ends.
    """

    left: float
    top: float
    right: float
    bottom: float

    def scaled(self, x: float, y: float) -> Box:
        """Return the same part of the picture at another size."""
        return Box(x * self.left, y * self.top, x * self.right, y * self.bottom)


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
        resize: what resizes.
    """

    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    resize_mode: str
    fill: int = 0
    resize: Resize = "pillow"

    def identity(self) -> dict[str, str | int | None]:
        """Return the settings as flat values for a provenance record; only a resize other than Pillow's is one."""
        return {
            **({} if self.resize == "pillow" else {"resize": self.resize}),
            "image_size": "x".join(str(side) for side in self.size),
            "mean": numbers(self.mean),
            "std": numbers(self.std),
            "interpolation": self.interpolation,
            "resize_mode": self.resize_mode,
        }

    @classmethod
    def of_identity(cls, identity: Mapping[str, object]) -> Preprocessing | None:
        """Return the settings that `identity` wrote, but for the grey of a padding; None where it did not."""
        try:
            height, width = (int(side) for side in str(identity["image_size"]).split("x"))
            mean, std = (tuple(float(value) for value in str(identity[key]).split(",")) for key in ("mean", "std"))
        except (KeyError, ValueError):
            return None
        if not 0 < min(height, width) <= max(height, width) <= MAX_SIDE:
            return None
        resize: Resize = "torch" if identity.get("resize") == "torch" else "pillow"
        if "resize_mode" not in identity or "interpolation" not in identity:
            return None
        mode = str(identity["resize_mode"])
        return cls((height, width), mean, std, str(identity["interpolation"]), mode, resize=resize)

    def seen(self, size: tuple[int, int]) -> Box:
        """Return the part of a picture of this (width, height) that the input of the tower shows.

        Raises:
            MmoodError: this kind of transform is not known here.
        """
        if not self.shows_known_part():
            raise MmoodError(
                f"It is not known which part of a picture the transform '{self.resize_mode}' to {self.size[0]} x "
                f"{self.size[1]} pixels shows, so no map can be laid over it."
            )
        (width, height), (wide, high) = size, _resized(self, size)
        left, top = _start(wide, self.size[1]), _start(high, self.size[0])
        box = Box(left, top, left + self.size[1], top + self.size[0])
        return box.scaled(width / wide, height / high)

    def check(self) -> None:
        """Raise MmoodError if `pixels` cannot do this."""
        if not self.is_known():
            raise MmoodError(
                f"The transform '{self.resize_mode}, {self.interpolation}' to {self.size[0]} x {self.size[1]} pixels "
                "is only available with torch; without torch use shortest (square), longest, squash or timm's center."
            )

    def check_without_torch(self) -> None:
        """Raise MmoodError if torch is needed for this."""
        self.check()
        if self.resize == "torch":
            raise MmoodError(
                "The images were resized by torch (`data.resize: torch`), which is not available here; calibrate again "
                "with `data.resize: pillow`."
            )

    def is_known(self) -> bool:
        """Return whether `pixels` can do this."""
        return self.interpolation in _FILTERS and self.shows_known_part()

    def shows_known_part(self) -> bool:
        """Return whether `seen` knows this kind of transform."""
        mode, _, share = self.resize_mode.partition(" ")
        square = self.size[0] == self.size[1]
        if share:
            # timm's share of the side that is left after the crop.
            known = re.fullmatch(r"[01](\.\d{1,20})?", share) is not None and 0 < float(share) <= 1
            return mode in ("center", "squash") and square and known
        return mode in ("longest", "squash") or (mode in ("shortest", "center") and square)

    def pixels(self, image: Image.Image, resizer: Resizer | None = None, change: Change | None = None) -> Pixels:
        """Return an RGB image resized (by Pillow unless told), cropped or padded, divided by 255 and normalised.

        Args:
            image: of any size.
            resizer: what resizes in the place of Pillow.
            change: what is done to the 8-bit image before it is divided.
        """
        fitted = np.asarray(_fitted(self, image, resizer or _by_pillow))
        fitted = fitted if change is None else change(fitted)
        # Planes first, then in place: numpy is slow where the last axis is the channels.
        planes = fitted.transpose(2, 0, 1).astype(np.float32, order="C")
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


def _by_pillow(image: Image.Image, size: tuple[int, int], interpolation: str) -> Image.Image:
    return image.resize(size, _FILTERS[interpolation])


def _fitted(settings: Preprocessing, image: Image.Image, resizer: Resizer) -> Image.Image:
    settings.check()
    height, width = settings.size
    mode, _, share = settings.resize_mode.partition(" ")
    if mode != "squash":
        target = _target(settings)
        check_resized(image, (target, target) if share else settings.size, mode == "longest")
    size = _resized(settings, image.size)
    resized = image if size == image.size else resizer(image, size, settings.interpolation)
    return _centre(resized, (width, height), settings.fill)


def _target(settings: Preprocessing) -> int:
    """Return the height before the crop: timm cuts its crop out of a larger square."""
    share = settings.resize_mode.partition(" ")[2]
    return math.floor(settings.size[0] / float(share)) if share else settings.size[0]


def _resized(settings: Preprocessing, size: tuple[int, int]) -> tuple[int, int]:
    """Return (width, height) of an image of this (width, height) once it is resized."""
    height, width = settings.size
    mode, _, share = settings.resize_mode.partition(" ")
    target = _target(settings)
    if mode == "squash":
        return (target, target) if share else (width, height)
    if mode == "longest":
        scale = max(size[1] / height, size[0] / width)
        return round(size[0] / scale), round(size[1] / scale)
    return _shorter_side(size, target)


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
    left, top = _start(image.width, size[0]), _start(image.height, size[1])
    if left < 0 or top < 0:
        padded = Image.new("RGB", (max(image.width, size[0]), max(image.height, size[1])), (fill, fill, fill))
        padded.paste(image, (max(0, -left), max(0, -top)))
        image, left, top = padded, max(0, left), max(0, top)
    return image.crop((left, top, left + size[0], top + size[1]))


def _start(have: int, want: int) -> int:
    """Return where the middle `want` of `have` pixels begins; the odd pixel of a padding stands at the end."""
    return -((want - have) // 2) if have < want else round((have - want) / 2)
