"""PLP's manipulation (arXiv 2303.05828): an image whose features are those of another one.

It is no attack with a budget: nothing bounds the change but [0, 1]. It shows that a detector in feature space can be
led anywhere, and says nothing of robustness at a stated size.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cosine_similarity

from mmood.attacks.budget import Images

START = 1e-3
"""Standard deviation of the random change that the optimisation begins with."""
BATCH = 16
"""Images of a batch in the paper's code, which averages its loss over them; Adam's epsilon sees the scale."""


def manipulated(
    features: Callable[[Images], Float[Tensor, "batch features"]],
    images: Images,
    targets: Float[Tensor, "batch features"],
    noise: Images,
    smoothness: float,
    steps: int = 250,
    rate: float = 1e-3,
) -> Images:
    """Return the images, each changed until its features point where those of its target do.

    Adam minimises -cos(f(x + d), f(target)) + smoothness * roughness(d) over the change d, which is clamped after each
    step so that x + d stays in [0, 1]. The target is an ID training image, drawn with replacement.

    Warning:
        Nothing bounds the change, so this says nothing of robustness at a stated size. A 1-NN whose bank holds the
        target images is judged by an image that it has stored; read its row without them, `knn (targets removed)`.

    Args:
        features: f, the image tower without its projection.
        images: x, in [0, 1].
        targets: f of the ID training image that each image is moved to.
        noise: Gaussian; d begins with 1e-3 of it.
        smoothness: 5000 for the paper's smooth changes, 0 for its patchy ones.
        steps: of Adam.
        rate: its learning rate.
    """
    change = (images + START * noise).clamp(0, 1) - images
    with torch.enable_grad():
        change.requires_grad_()
        adam = torch.optim.Adam([change], lr=rate)
        for _ in range(steps):
            near = cosine_similarity(features(images + change), targets, dim=1)
            loss = (smoothness * roughness(change) - near).sum() / BATCH
            (change.grad,) = torch.autograd.grad(loss, change)
            adam.step()
            with torch.no_grad():
                change.copy_((images + change).clamp(0, 1) - images)
    return (images + change.detach()).clamp(0, 1)


def roughness(change: Images) -> Float[Tensor, " batch"]:
    """Return mean (D_v d)^2 + mean (D_h d)^2 of each image, with forward differences of one pixel.

    The mean is over all values of the image; the differences of the last row or column are 0.

    >>> roughness(torch.tensor([[[[0.0, 2.0], [0.0, 2.0]]]]))
    tensor([2.])
    """
    size = change[0].numel()
    return sum(
        (change.diff(dim=dim).square().flatten(1).sum(dim=1) / size for dim in (2, 3)), change.new_zeros(len(change))
    )
