"""Image transforms that all encoders share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from PIL import Image as images
from PIL.Image import Image
from torch import Tensor
from torch.nn.functional import interpolate

from mmood.encoders.base import ImageTransform
from mmood.errors import MmoodError
from mmood.images.corruption import Corruption
from mmood.images.preprocessing import Change, Preprocessing, Resizer, check_resized


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
        check_resized(image, self.size, self.longest)
        return self.transform(image)


@dataclass(frozen=True)
class EvalTransform:
    """The eval transform of a tower, to the bit what open_clip or timm compute with torchvision, and quicker.

    Attributes:
        settings: of the transform; with Pillow's resize, or with torch's.
    """

    settings: Preprocessing

    def __call__(self, image: Image) -> Tensor:
        """Return the transformed image; ImageError if it is too narrow for that."""
        return torch.from_numpy(self.settings.pixels(image, self._resizer))

    def changed(self, image: Image, change: Change) -> Tensor:
        """Return the transformed image, its 8-bit pixels changed before they are normalised."""
        return torch.from_numpy(self.settings.pixels(image, self._resizer, change))

    @property
    def _resizer(self) -> Resizer | None:
        return resized if self.settings.resize == "torch" else None


KeyedTransform = Callable[[Image, int], Tensor]
"""From an RGB image and its key to a tensor."""


@dataclass(frozen=True)
class CorruptedTransform:
    """The eval transform of a tower with a corruption, which depends on the key of the image.

    Attributes:
        transform: of the tower.
        corruption: of its 8-bit images.
    """

    transform: EvalTransform
    corruption: Corruption

    def __call__(self, image: Image, key: int) -> Tensor:
        """Return the transformed image; ImageError if it is too narrow for that."""
        return self.transform.changed(image, lambda pixels: self.corruption.applied(pixels, key))


def corrupted(transform: ImageTransform, corruption: Corruption) -> KeyedTransform:
    """Return an eval transform with a corruption.

    Raises:
        MmoodError: the transform does not say where its 8-bit images are.
    """
    if not isinstance(transform, EvalTransform):
        raise MmoodError("`data.corruption` is not possible with the transform of this encoder, which is not known.")
    return CorruptedTransform(transform, corruption)


def resized(image: Image, size: tuple[int, int], interpolation: str) -> Image:
    """Return an RGB image in (width, height), antialiased, by torch's kernels for 8-bit images.

    Of Pillow's own result it differs by at most 3 of 255, and takes a fraction of the time.
    """
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]
    found = interpolate(pixels, size[::-1], mode=interpolation, antialias=True)[0]
    return images.fromarray(found.permute(1, 2, 0).contiguous().numpy())


def eval_transform(settings: Preprocessing) -> ImageTransform:
    """Return the eval transform: resize, crop or pad, divide by 255, normalise.

    Raises:
        MmoodError: torch is to resize, and the kind of transform is none that it can be told.
    """
    if settings.resize == "torch" or settings.is_known():
        settings.check()
        return EvalTransform(settings)
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


def contrastive_transform(settings: Preprocessing, scale: tuple[float, float]) -> ImageTransform:
    """Return the augmentation of SimCLR and SupCon (arXiv 2002.05709, 2004.11362), with the model's mean and deviation.

    A random resized crop of a share `scale` of the area (bilinear), mirrored half of the time; in four of five images
    brightness, contrast and saturation change by up to 40 % and the hue by up to 0.1; one of five is made grey. Without
    blur, as for CIFAR. It draws from torch's global generator, which the data loader seeds.
    """
    from torchvision import transforms

    return cast(
        ImageTransform,
        transforms.Compose(
            [
                transforms.RandomResizedCrop(settings.size, scale),
                transforms.RandomHorizontalFlip(),
                transforms.RandomApply([transforms.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8),
                transforms.RandomGrayscale(p=0.2),
                transforms.ToTensor(),
                transforms.Normalize(settings.mean, settings.std),
            ]
        ),
    )


def train_transform(settings: Preprocessing, scale: tuple[float, float], flip: bool = False) -> ImageTransform:
    """Return the training transform of CMA (Kim & Hwang, CVPR 2025), with the model's own mean and deviation.

    A random resized crop of a share `scale` of the area (aspect ratio 3/4 to 4/3, bicubic), normalised; with `flip`
    half of the images are mirrored first. It draws from torch's global generator, which the data loader seeds.
    """
    from open_clip import AugmentationCfg, image_transform
    from torchvision.transforms import Compose, RandomHorizontalFlip

    transform = image_transform(
        settings.size, is_train=True, mean=settings.mean, std=settings.std, aug_cfg=AugmentationCfg(scale=scale)
    )
    return cast(ImageTransform, Compose([RandomHorizontalFlip(), transform]) if flip else transform)
