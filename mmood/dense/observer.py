"""ObsNet (arXiv 2108.01634): an observer that learns from local attacks where a frozen segmenter is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

import torch
from jaxtyping import Float
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.nn import functional
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.optimizer import Optimizer

from mmood.dense.attacks import LocalAttack, attacked
from mmood.dense.detector import AbstractDenseDetector, check_classes, step_seed
from mmood.dense.labels import IGNORED, OOD
from mmood.dense.scores import AbstractDenseScore, DenseOutputs, checked_scores
from mmood.dense.segmenter import NetworkSettings, build_network
from mmood.dense.segnet import ObserverNet, SegNet
from mmood.dense.transforms import split
from mmood.errors import MmoodError
from mmood.loading.batch import Batch
from mmood.modules.optimisation import ScheduleCallable, stepped
from mmood.runs.checkpoints import read_checkpoint
from mmood.settings import check_number
from mmood.shards.hashes import digest

_NETWORK = NetworkSettings()
_ATTACK = LocalAttack()


class ShareSteps(LambdaLR):
    """Multiplies the learning rate by a factor when given shares of the run are over.

    Args:
        optimizer: whose learning rates are those of the start.
        steps: of the whole run.
        shares: of the steps, after each of which the factor is applied; the paper's epochs 25 and 45 of 51.
        factor: what the rate is multiplied by.
    """

    def __init__(
        self, optimizer: Optimizer, steps: int, shares: tuple[float, ...] = (25 / 51, 45 / 51), factor: float = 0.2
    ) -> None:
        super().__init__(optimizer, lambda step: factor ** sum(step >= share * steps for share in shares))


@final
class Observer(AbstractDenseDetector):
    """Trains an observer of a frozen segmenter: binary cross-entropy of "the segmenter is wrong at this pixel".

    Every training batch is attacked locally (`LocalAttack`), so that there are failures to learn from. Pixels that are
    OoD are never trained on.

    Args:
        class_names: names of the ID classes of pixels.
        scores: name in the results -> score of pixels.
        segmenter: checkpoint of the `Segmenter` to watch, read when training starts. A checkpoint of the observer holds
            the segmenter's weights too.
        network: the network of that segmenter.
        attack: how training images are attacked; `step: 0, noise: 0` for none.
        positive_weight: weight of wrong pixels in the loss; 2 for CamVid, 3 for the other sets of the paper.
        dropout: of the observer.
        ignored_pixels_are_wrong: whether pixels without a class, such as void, count as failures in training, as in the
            released code.
        seed: of attacks and dropout; None for that of the run (`seed_everything`).
        optimizer: from the parameters to their optimiser.
        schedule: from the optimiser and the number of steps to the learning rate of each step.
    """

    def __init__(
        self,
        class_names: str | list[str],
        scores: dict[str, AbstractDenseScore],
        segmenter: str | None = None,
        network: NetworkSettings = _NETWORK,
        attack: LocalAttack = _ATTACK,
        positive_weight: float = 2.0,
        dropout: float = 0.1,
        ignored_pixels_are_wrong: bool = False,
        seed: int | None = None,
        optimizer: OptimizerCallable = lambda parameters: torch.optim.SGD(parameters, lr=0.2),
        schedule: ScheduleCallable = lambda optimizer, steps: ShareSteps(optimizer, steps),
    ) -> None:
        super().__init__(class_names, checked_scores(scores, observed=True))
        check_number("`model.positive_weight`", positive_weight, above=0)
        check_number("`model.dropout`", dropout, least=0, below=1)
        if network.architecture != "segnet":
            raise MmoodError(f"`model.network.architecture` is {network.architecture}; an observer watches segnet.")
        segnet = build_network(network, len(self.class_names))
        assert isinstance(segnet, SegNet)
        self.network_settings = network
        self.network = segnet.requires_grad_(False).eval()
        self.observer = ObserverNet(dropout, network.width)
        self.segmenter = segmenter
        self.attack = attack
        self.positive_weight = positive_weight
        self.ignored_pixels_are_wrong = ignored_pixels_are_wrong
        self.seed = seed
        self.optimizer = optimizer
        self.schedule = schedule

    def outputs(self, images: Float[Tensor, "batch 3 height width"]) -> DenseOutputs:
        """Return the segmenter's logits and what the observer says of them."""
        seen = self.network.seen(images)
        return DenseOutputs(seen.logits.float(), self.observer(images, seen).float())

    def setup(self, stage: str) -> None:
        """Take the weights of the segmenter: before a checkpoint to resume from is loaded."""
        if stage != "fit":
            return
        if self.segmenter is None:
            raise MmoodError("`model.segmenter` is not set; name the checkpoint of a Segmenter.")
        self.network.load_state_dict(segmenter_weights(Path(self.segmenter), self.network, self.class_names))
        self.observer.start_from(self.network)

    def train(self, mode: bool = True) -> Observer:
        """Set the mode of the observer; the segmenter stays in evaluation mode."""
        super().train(mode)
        self.network.eval()
        return self

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return the optimiser of the observer and its schedule, stepped after every batch."""
        return stepped(self.optimizer(list(self.observer.parameters())), self.schedule, self.trainer)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of the observer on a batch that is attacked locally."""
        images, targets = split(batch["image"])
        generator = torch.Generator().manual_seed(digest(self.seed or 0, self.global_step, self.global_rank))
        moved = attacked(images, targets, self.network, self.attack, generator)
        with torch.no_grad():
            seen = self.network.seen(moved)
        wrong, counted = failures(seen.logits, targets, self.ignored_pixels_are_wrong)
        with step_seed(self.device, self.seed or 0, self.global_step, self.global_rank):
            failure = self.observer(moved, seen)
        loss = failure_loss(failure.float(), wrong, counted, self.positive_weight)
        self.log("train/loss", loss, prog_bar=True)
        self.log("train/wrong_pixels", wrong[counted].float().mean())
        return loss


def failures(logits: Tensor, targets: Tensor, ignored_are_wrong: bool) -> tuple[Tensor, Tensor]:
    """Return where the prediction is not the target, and which pixels count: both (B, H, W) bool.

    Pixels that are OoD never count; pixels that are ignored count, as failures, only if that is asked for.
    """
    wrong = logits.argmax(dim=1) != targets
    counted = (targets != OOD) & (targets != IGNORED)
    return wrong, (targets != OOD) if ignored_are_wrong else counted


def failure_loss(failure: Tensor, wrong: Tensor, counted: Tensor, positive_weight: float) -> Tensor:
    """Return the mean binary cross-entropy over the counted pixels, with a weight for wrong ones; 0 if none counts."""
    weight = failure.new_tensor(positive_weight)
    losses = functional.binary_cross_entropy_with_logits(failure, wrong.float(), pos_weight=weight, reduction="none")
    return torch.where(counted, losses, 0.0).sum() / counted.sum().clamp(min=1)


def segmenter_weights(path: Path, network: SegNet, class_names: Sequence[str]) -> dict[str, Any]:
    """Return the weights of the network in the checkpoint of a Segmenter.

    Raises:
        MmoodError: there is no such file, or it holds no network of this shape or of these classes.
    """
    checkpoint = read_checkpoint(path, "`model.segmenter`")
    check_classes(checkpoint, class_names, f"The checkpoint '{path}' of `model.segmenter`")
    state = checkpoint.get("state_dict", {})
    prefix = "network."
    weights = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
    own = network.state_dict()
    if weights.keys() != own.keys() or any(weights[name].shape != own[name].shape for name in own):
        raise MmoodError(
            f"The checkpoint '{path}' of `model.segmenter` holds no {len(own)} tensors of this network; name the "
            "checkpoint of a Segmenter with the same `network`, labels and `ood_labels`."
        )
    return weights
