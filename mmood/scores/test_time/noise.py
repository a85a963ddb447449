"""Images of noise: out-of-distribution for every set of classes, before the first test image comes."""

from __future__ import annotations

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

KINDS = ("gaussian", "uniform", "poisson", "gamma", "salt-and-pepper")

POISSON_RATE = 4.0
GAMMA_SCALE = 0.25


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
