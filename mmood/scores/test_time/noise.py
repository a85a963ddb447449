"""Images of noise: out-of-distribution for every set of classes, before the first test image comes."""

from __future__ import annotations

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

KINDS = ("gaussian", "uniform", "poisson", "gamma", "salt-and-pepper")

POISSON_RATE = 4.0
GAMMA_SCALE = 0.25

RELEASED_POISSON_RATE = 5.0


def noise_pixels(kind: str, side: int, generator: torch.Generator) -> Float[Tensor, "side side 3"]:
    """Return one square of noise, values in [0, 1], pixels and channels independent; what lies outside is cut.

    Gaussian of mean 1/2 and standard deviation 1/4; uniform; Poisson of rate 4 over 8; gamma of shape 2 and scale 1/4;
    salt and pepper: black or white, with equal probability, in all channels. TANL names the kinds and no parameters;
    these have a mean of one half.

    >>> noise_pixels("salt-and-pepper", 2, torch.Generator().manual_seed(0)).shape
    torch.Size([2, 2, 3])
    """
    uniform = torch.rand(2, side, side, 3, generator=generator).clamp_min(torch.finfo(torch.float32).tiny)
    if kind == "gaussian":
        return (0.5 + 0.25 * torch.randn(side, side, 3, generator=generator)).clamp(0, 1)
    if kind == "poisson":
        rate = torch.full((side, side, 3), POISSON_RATE)
        return (torch.poisson(rate, generator=generator) / (2 * POISSON_RATE)).clamp(0, 1)
    if kind == "gamma":
        # A gamma variable of shape 2 is the sum of two exponential ones.
        return (-GAMMA_SCALE * uniform.log().sum(0)).clamp(0, 1)
    if kind == "salt-and-pepper":
        return (uniform[0, :, :, :1] < 0.5).float().expand(side, side, 3)
    return uniform[0]


def noise_images(each: int, side: int, seed: int) -> list[Image.Image]:
    """Return `each` RGB images of every kind, drawn from a private generator.

    >>> len(noise_images(3, side=4, seed=0))
    15
    """
    generator = torch.Generator().manual_seed(seed)
    squares = [noise_pixels(kind, side, generator) for kind in KINDS for _ in range(each)]
    return [Image.fromarray((square * 255).round().to(torch.uint8).numpy(), "RGB") for square in squares]


def released_noise(each: int, size: tuple[int, int], seed: int) -> Float[Tensor, "images 3 height width"]:
    """Return `each` inputs of an image tower of every kind of noise, as TANL's released code makes them.

    Pixels and channels are independent: a standard normal, a uniform, Poisson(5) and Gamma(2, 1) variable, each input
    scaled so that its smallest value is 0 and its largest 1, but for the uniform; salt and pepper with equal
    probability. They are not normalised by the mean and deviation of the model's images. That all three are scaled, and
    the share of salt, is our reading.

    Args:
        each: inputs of every kind.
        size: height and width.
        seed: of a private generator.

    >>> released_noise(2, (4, 6), seed=0).shape
    torch.Size([10, 3, 4, 6])
    """
    generator = torch.Generator().manual_seed(seed)
    shape = (each, 3, *size)
    normal = torch.randn(shape, generator=generator)
    uniform = torch.rand(shape, generator=generator)
    poisson = torch.poisson(torch.full(shape, RELEASED_POISSON_RATE), generator=generator)
    # A gamma variable of shape 2 is the sum of two exponential ones.
    gamma = -torch.rand(2, *shape, generator=generator).clamp_min(torch.finfo(torch.float32).tiny).log().sum(0)
    pepper = (torch.rand(shape, generator=generator) < 0.5).float()
    return torch.cat([_scaled(normal), uniform, _scaled(poisson), _scaled(gamma), pepper])


def _scaled(images: Float[Tensor, "images 3 height width"]) -> Float[Tensor, "images 3 height width"]:
    low, high = images.amin((1, 2, 3), keepdim=True), images.amax((1, 2, 3), keepdim=True)
    return (images - low) / (high - low).clamp_min(torch.finfo(torch.float32).tiny)
