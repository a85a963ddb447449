"""The segmenter: a network that names the class of every pixel, trained with cross-entropy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, final

import torch
from jaxtyping import Float
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn import functional

from mmood.dense.detector import AbstractDenseDetector, step_seed
from mmood.dense.scores import AbstractDenseScore, DenseOutputs, checked_scores
from mmood.dense.segnet import SegNet
from mmood.dense.transforms import split
from mmood.errors import MmoodError
from mmood.loading.batch import Batch
from mmood.modules.optimisation import ScheduleCallable, WarmupCosine, stepped
from mmood.settings import check_choice, check_number

Architecture = Literal["segnet", "deeplabv3_resnet50", "deeplabv3_resnet101", "deeplabv3_mobilenet_v3_large"]
_ARCHITECTURES: tuple[Architecture, ...] = (
    "segnet",
    "deeplabv3_resnet50",
    "deeplabv3_resnet101",
    "deeplabv3_mobilenet_v3_large",
)


@dataclass(frozen=True)
class NetworkSettings:
    """Which network segments.

    Attributes:
        architecture: `segnet` (arXiv 1511.00561), or DeepLabV3 (arXiv 1706.05587) as torchvision has it.
        width: scales the widths of SegNet's stages; 1 is the paper's network of 29 million weights.
        pretrained_backbone: start DeepLabV3 from a backbone trained on ImageNet, which torchvision downloads.
    """

    architecture: Architecture = "segnet"
    width: float = 1.0
    pretrained_backbone: bool = False

    def __post_init__(self) -> None:
        check_choice("`model.network.architecture`", self.architecture, _ARCHITECTURES)
        check_number("`model.network.width`", self.width, above=0)
        if self.architecture == "segnet" and self.pretrained_backbone:
            raise MmoodError("`model.network.pretrained_backbone` is true, but SegNet has no pre-trained backbone.")


def build_network(settings: NetworkSettings, classes: int) -> nn.Module:
    """Return the network with random weights, or a pre-trained backbone where that is set.

    Raises:
        MmoodError: the weights of the backbone cannot be downloaded.
    """
    if settings.architecture == "segnet":
        return SegNet(classes, width=settings.width)
    from torchvision.models import segmentation

    try:
        network: nn.Module = getattr(segmentation, settings.architecture)(
            weights=None, weights_backbone="DEFAULT" if settings.pretrained_backbone else None, num_classes=classes
        )
    except OSError as error:
        raise MmoodError(
            f"The weights of the backbone of {settings.architecture} cannot be downloaded: {error}."
        ) from error
    return network


_NETWORK = NetworkSettings()


@final
class Segmenter(AbstractDenseDetector):
    """Trains a segmentation network with cross-entropy over the pixels of ID classes; all other pixels are left out.

    Args:
        class_names: names of the ID classes of pixels.
        scores: name in the results -> score of pixels.
        network: which network.
        seed: of dropout; None for that of the run (`seed_everything`), which also seeds the weights.
        optimizer: from the parameters to their optimiser.
        schedule: from the optimiser and the number of steps to the learning rate of each step.
    """

    def __init__(
        self,
        class_names: str | list[str],
        scores: dict[str, AbstractDenseScore],
        network: NetworkSettings = _NETWORK,
        seed: int | None = None,
        optimizer: OptimizerCallable = lambda parameters: torch.optim.AdamW(parameters, lr=1e-3, weight_decay=1e-4),
        schedule: ScheduleCallable = lambda optimizer, steps: WarmupCosine(optimizer, steps, warmup=100),
    ) -> None:
        super().__init__(class_names, checked_scores(scores, observed=False))
        self.network_settings = network
        self.network = build_network(network, len(self.class_names))
        self.seed = seed
        self.optimizer = optimizer
        self.schedule = schedule

    def outputs(self, images: Float[Tensor, "batch 3 height width"]) -> DenseOutputs:
        """Return the logits of every pixel."""
        return DenseOutputs(logits_of(self.network, images).float())

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return the optimiser and its schedule, stepped after every batch."""
        return stepped(self.optimizer(list(self.network.parameters())), self.schedule, self.trainer)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the mean cross-entropy over the pixels of ID classes."""
        images, targets = split(batch["image"])
        with step_seed(self.device, self.seed or 0, self.global_step, self.global_rank):
            logits = logits_of(self.network, images)
        loss = pixel_cross_entropy(logits.float(), targets)
        self.log("train/loss", loss, prog_bar=True)
        return loss


def logits_of(network: nn.Module, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch classes h w"]:
    """Return the logits of every pixel; torchvision's networks answer with a mapping."""
    answer: Any = network(images)
    logits: Tensor = answer if isinstance(answer, Tensor) else answer["out"]
    return logits


def pixel_cross_entropy(logits: Float[Tensor, "batch classes h w"], targets: Tensor) -> Tensor:
    """Return the mean cross-entropy over the pixels with a class; 0 where there is none."""
    total = functional.cross_entropy(logits, targets.clamp(min=-1), ignore_index=-1, reduction="sum")
    return total / (targets >= 0).sum().clamp(min=1)
