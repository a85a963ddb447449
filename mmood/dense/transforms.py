"""Image and mask as one: what moves pixels moves their labels too."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from PIL import Image
from torch import Tensor
from torchvision.transforms import ColorJitter
from torchvision.transforms.functional import normalize, pil_to_tensor

from mmood.errors import MmoodError
from mmood.settings import check_number

Box = tuple[float, float, float, float]
"""Left, top, right and bottom border, in pixels."""

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet, as segmentation networks have them."""


@dataclass(frozen=True)
class Augmentation:
    """What training does to an image and its mask, each drawn anew.

    Attributes:
        crop: largest share of height and width that is cut away, split at random over the two sides; what is left is
            resized to the input.
        flip: chance of a horizontal flip.
        jitter: largest relative change of brightness, contrast and saturation.
    """

    crop: float = 0.1
    flip: float = 0.5
    jitter: float = 0.5

    def __post_init__(self) -> None:
        check_number("`data.augmentation.crop`", self.crop, least=0, below=1)
        check_number("`data.augmentation.flip`", self.flip, least=0, most=1)
        check_number("`data.augmentation.jitter`", self.jitter, least=0, most=1)


@dataclass(frozen=True)
class PairTransform:
    """From an image and the targets of its pixels to one tensor.

    Attributes:
        size: (height, width) of the result.
        augmentation: of training; None for evaluation.
    """

    size: tuple[int, int]
    augmentation: Augmentation | None = None

    def __call__(
        self, image: Image.Image, targets: Int64[np.ndarray, "height width"]
    ) -> Float[Tensor, "4 height width"]:
        """Return the normalised image (3 channels), resized bilinearly, and the targets (1), resized to the nearest.

        The targets are whole numbers, which float32 holds exactly.
        """
        mask = Image.fromarray(targets.astype(np.int32), mode="I")
        box: Box = (0.0, 0.0, float(image.width), float(image.height))
        if self.augmentation is not None:
            image, mask, box = _augmented(image, mask, self.augmentation)
        height, width = self.size
        image = image.resize((width, height), Image.Resampling.BILINEAR, box=box)
        mask = mask.resize((width, height), Image.Resampling.NEAREST, box=box)
        pixels = normalize(pil_to_tensor(image).float() / 255, MEAN, STD)
        return torch.cat([pixels, torch.from_numpy(np.array(mask, dtype=np.float32))[None]])


def split(batch: Float[Tensor, "batch 4 height width"]) -> tuple[Tensor, Tensor]:
    """Return images (B, 3, H, W) float32 and targets (B, H, W) int64 of what `PairTransform` made.

    Raises:
        MmoodError: the batch holds no targets.
    """
    if batch.shape[1] != 4:
        raise MmoodError(f"A batch of images with masks has 4 channels, not {batch.shape[1]}.")
    return batch[:, :3].contiguous(), batch[:, 3].long()


def _augmented(image: Image.Image, mask: Image.Image, settings: Augmentation) -> tuple[Image.Image, Image.Image, Box]:
    """Return image and mask, flipped and jittered, and the box to keep; draws from torch's global generator."""
    cut = torch.rand(4).tolist()
    width, height = image.size
    left, right = (settings.crop * share * width / 2 for share in cut[:2])
    top, bottom = (settings.crop * share * height / 2 for share in cut[2:])
    if torch.rand(()).item() < settings.flip:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        mask = mask.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    jitter = ColorJitter(*[settings.jitter] * 3)
    return jitter(image), mask, (left, top, width - right, height - bottom)
