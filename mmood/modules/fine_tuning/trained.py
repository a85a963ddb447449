"""Which parameters of a vision-language model are trained, and in which groups the optimiser gets them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmood.encoders.base import AbstractEncoder
from mmood.encoders.vision_language import VisionLanguageEncoder
from mmood.errors import MmoodError
from mmood.settings import check_count


@dataclass(frozen=True)
class TrainedTowers:
    """Which towers are trained, and which layers of them.

    Attributes:
        towers: `both` towers, the `image` tower only, or `none` (a linear head on frozen features).
        groups: only the last so many groups of layers of each trained tower, as open_clip counts them: of its image
            ViTs the projection is the first, then come the blocks from the last one backwards. None for all.
        batch_norm: let BatchNorm layers learn running statistics; by default they keep the pre-trained ones and train
            only their scale and shift.
        decay_vectors: apply weight decay to biases, norms and the logit scale too, as the reference does.
    """

    towers: Literal["both", "image", "none"] = "both"
    groups: int | None = None
    batch_norm: bool = False
    decay_vectors: bool = True

    def __post_init__(self) -> None:
        check_count("`model.trained.groups`", self.groups, null="all layers")


def select(encoder: VisionLanguageEncoder, trained: TrainedTowers) -> None:
    """Let exactly the trained parameters of a contrastive model require a gradient, the logit scale among them."""
    model = encoder.model
    model.requires_grad_(trained.towers == "both")
    model.visual.requires_grad_(trained.towers != "none")
    model.logit_scale.requires_grad_(True)
    if trained.groups is not None:
        _lock(encoder, trained.towers, trained.groups)
    image = encoder.encode_image(_black(encoder)).embedding
    assert image is not None
    freeze_unreached(encoder, (image @ encoder.encode_text(["text"]).T * encoder.logit_scale).sum())


def select_image_tower(encoder: AbstractEncoder, trained: TrainedTowers, output: Callable[[Tensor], Tensor]) -> None:
    """Let exactly the parameters that `output(images)` depends on require a gradient, if the tower is trained."""
    if isinstance(encoder, VisionLanguageEncoder):
        select(encoder, trained)
    elif trained.groups is not None:
        raise MmoodError("`model.trained.groups` needs an open_clip model; leave it out to train all layers.")
    else:
        encoder.requires_grad_(trained.towers != "none")
    freeze_unreached(encoder, output(_black(encoder)).sum())


def freeze_unreached(encoder: nn.Module, output: Tensor) -> None:
    """Freeze parameters without influence on `output` (a decoder, a logit bias): DDP waits for every gradient."""
    trained = [parameter for parameter in encoder.parameters() if parameter.requires_grad]
    gradients = (
        torch.autograd.grad(output, trained, allow_unused=True) if output.requires_grad else [None] * len(trained)
    )
    for parameter, gradient in zip(trained, gradients, strict=True):
        parameter.requires_grad_(gradient is not None)


def training_mode(encoder: nn.Module, trained: TrainedTowers) -> None:
    """Put the encoder into training mode, except frozen modules and (unless it is trained) BatchNorm."""
    encoder.train()
    for module in encoder.modules():
        parameters = list(module.parameters())
        frozen = bool(parameters) and not any(parameter.requires_grad for parameter in parameters)
        if frozen or (isinstance(module, _BatchNorm) and not trained.batch_norm):
            module.eval()


def own_batch_norm(encoder: nn.Module) -> bool:
    """Return whether a BatchNorm layer in training mode reads the images of its device alone."""
    layers = (module for module in encoder.modules() if isinstance(module, _BatchNorm))
    return any(layer.training and not isinstance(layer, nn.SyncBatchNorm) for layer in layers)


def parameter_groups(module: nn.Module, decay_vectors: bool) -> list[dict[str, Any]]:
    """Return the trained parameters in the optimiser's groups: all in one, or those below 2-D apart, without decay."""
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    if decay_vectors:
        return [{"params": trained}]
    return [
        {"params": [parameter for parameter in trained if parameter.ndim >= 2]},
        {"params": [parameter for parameter in trained if parameter.ndim < 2], "weight_decay": 0.0},
    ]


def _lock(encoder: VisionLanguageEncoder, towers: str, groups: int) -> None:
    try:
        if towers != "none":
            encoder.model.lock_image_tower(unlocked_groups=groups)
        if towers == "both":
            encoder.model.lock_text_tower(unlocked_layers=groups)
    except (AssertionError, RuntimeError, AttributeError) as error:
        raise MmoodError(
            f"`model.trained.groups` is {groups}, but open_clip cannot freeze a part of '{encoder.settings.name}' "
            f"({error}); leave it out to train all layers."
        ) from error


def _black(encoder: AbstractEncoder) -> Tensor:
    device = next(encoder.parameters()).device
    return torch.zeros(1, 3, *encoder.image_size, device=device)
