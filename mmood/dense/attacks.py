"""Local adversarial attacks (ObsNet, arXiv 2108.01634): failures of a segmenter, made in a part of an image.

The attack is a single signed gradient step inside a mask. Images are normalised, so its size is in standard deviations.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn import functional

from mmood.settings import check_choice, check_number

Images = Float[Tensor, "batch 3 height width"]
Masks = Bool[Tensor, "batch height width"]
Targets = Int[Tensor, "batch height width"]

Region = Literal["shapes", "image", "pixels", "class", "rectangle"]
_REGIONS: tuple[Region, ...] = ("shapes", "image", "pixels", "class", "rectangle")
_FEWEST_SHAPES, _MOST_SHAPES = 6, 10
_PIXEL_SHARE = 0.05


@dataclass(frozen=True)
class LocalAttack:
    """How images are attacked.

    Attributes:
        step: size of the signed step, in the units of the normalised image; 0 switches the attack off.
        direction: `away` from the labels (the paper's "min"), or `towards` one random class for all pixels of an image
            (its "max").
        region: what is attacked: `shapes` (6 to 10 random shapes within a random window, the paper's choice), the whole
            `image`, 5 % of the `pixels`, the pixels of one random `class`, or a `rectangle`, which is the window.
        window: height and width of the window as shares of the image's.
        shape: smallest and largest side of a shape as shares of the window's shorter side.
        noise: standard deviation of the Gaussian noise that comes before the step, inside the region.
        limit: values are clamped to [-limit, limit].
    """

    step: float = 0.025
    direction: Literal["away", "towards"] = "away"
    region: Region = "shapes"
    window: tuple[float, float] = (128 / 360, 128 / 480)
    shape: tuple[float, float] = (60 / 128, 80 / 128)
    noise: float = 0.03
    limit: float = 3.0

    def __post_init__(self) -> None:
        check_number("`model.attack.step`", self.step, least=0)
        check_number("`model.attack.noise`", self.noise, least=0)
        check_number("`model.attack.limit`", self.limit, above=0)
        check_choice("`model.attack.direction`", self.direction, ("away", "towards"))
        check_choice("`model.attack.region`", self.region, _REGIONS)
        for key, (low, high) in (("window", self.window), ("shape", self.shape)):
            check_number(f"`model.attack.{key}`", low, above=0, most=1)
            check_number(f"`model.attack.{key}`", high, above=0, most=1)


def attacked(
    images: Images,
    targets: Targets,
    logits: Callable[[Images], Float[Tensor, "batch classes height width"]],
    settings: LocalAttack,
    generator: torch.Generator,
) -> Images:
    """Return the images, each attacked in a part: there x' = x + n +- step * sign(grad CE(f(x + n), y)).

    The loss is over all pixels with a class, but only the region changes. No gradient leads through the result.

    Args:
        images: normalised.
        targets: class of each pixel; negative where it has none.
        logits: the segmenter, differentiable in its input.
        settings: how.
        generator: of the CPU, for regions, noise and classes.
    """
    if settings.step == 0 and settings.noise == 0:
        return images
    region = regions(targets, settings, generator)[:, None].to(images.device)
    noise = torch.randn(images.shape, generator=generator).to(images.device)
    with torch.enable_grad():
        start = (images + settings.noise * noise * region).detach().requires_grad_()
        outputs = logits(start)
        wanted = targets.clamp(min=-1)
        if settings.direction == "towards":
            wanted = _random_classes(len(images), outputs.shape[1], generator).to(images.device)[:, None, None]
            wanted = wanted.expand_as(targets)
        loss = functional.cross_entropy(outputs, wanted, ignore_index=-1, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, start)
    sign = 1.0 if settings.direction == "away" else -1.0
    moved = (start.detach() + sign * settings.step * gradient.sign()).clamp(-settings.limit, settings.limit)
    return torch.where(region, moved, images)


def regions(targets: Targets, settings: LocalAttack, generator: torch.Generator) -> Masks:
    """Return for each image the pixels that are attacked."""
    batch, height, width = targets.shape
    draw = np.random.default_rng(int(torch.randint(2**62, (), generator=generator)))
    if settings.region == "image":
        return torch.ones(batch, height, width, dtype=torch.bool)
    if settings.region == "pixels":
        return torch.from_numpy(draw.random((batch, height, width)) < _PIXEL_SHARE)
    if settings.region == "class":
        return torch.stack([_of_one_class(image, draw) for image in targets.cpu()])
    return torch.stack([_in_window(height, width, settings, draw) for _ in range(batch)])


def _of_one_class(targets: Int[Tensor, "height width"], draw: np.random.Generator) -> Bool[Tensor, "height width"]:
    classes = np.unique(targets[targets >= 0].numpy())
    if not len(classes):
        return torch.zeros_like(targets, dtype=torch.bool)
    return torch.eq(targets, int(draw.choice(classes)))


def _in_window(
    height: int, width: int, settings: LocalAttack, draw: np.random.Generator
) -> Bool[Tensor, "height width"]:
    """Return a window at a random place, all of it or the random shapes within."""
    tall, wide = (max(1, round(share * side)) for share, side in zip(settings.window, (height, width), strict=True))
    top, left = (int(draw.integers(side - own + 1)) for side, own in ((height, tall), (width, wide)))
    mask = np.zeros((height, width), dtype=bool)
    inside = (
        np.ones((tall, wide), dtype=bool) if settings.region == "rectangle" else _shapes(tall, wide, settings, draw)
    )
    mask[top : top + tall, left : left + wide] = inside
    return torch.from_numpy(mask)


def _shapes(
    height: int, width: int, settings: LocalAttack, draw: np.random.Generator
) -> Bool[np.ndarray, "height width"]:
    """Return 6 to 10 rectangles, ellipses and triangles at random places; they may overlap."""
    canvas = Image.new("1", (width, height))
    pen = ImageDraw.Draw(canvas)
    smallest, largest = (max(1, round(share * min(height, width))) for share in settings.shape)
    for _ in range(int(draw.integers(_FEWEST_SHAPES, _MOST_SHAPES + 1))):
        tall, wide = (int(draw.integers(smallest, largest + 1)) for _ in range(2))
        top, left = (int(draw.integers(max(1, side - own + 1))) for side, own in ((height, tall), (width, wide)))
        box = (left, top, left + wide - 1, top + tall - 1)
        match int(draw.integers(3)):
            case 0:
                pen.rectangle(box, fill=1)
            case 1:
                pen.ellipse(box, fill=1)
            case _:
                corner = left + int(draw.integers(wide))
                pen.polygon([(corner, box[1]), (box[0], box[3]), (box[2], box[3])], fill=1)
    return np.array(canvas, dtype=bool)


def _random_classes(count: int, classes: int, generator: torch.Generator) -> Int[Tensor, " batch"]:
    return torch.randint(classes, (count,), generator=generator)
