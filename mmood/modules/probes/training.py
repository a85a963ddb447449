"""What linear and pseudo-label probes share besides the head: rows, optimiser, schedule, choice of the head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from lightning.pytorch import Trainer
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor

from mmood.classes.counts import lacking
from mmood.errors import MmoodError
from mmood.features.loader import TrainingRows
from mmood.loading.few_shot import few_shot
from mmood.modules.optimisation import ScheduleCallable, stepped
from mmood.modules.probes.head import GridSettings
from mmood.modules.probes.probe import Probe, StoredOutputs
from mmood.output.printing import complain
from mmood.runs.signals import is_first_rank
from mmood.settings import check_count


@dataclass(frozen=True)
class ProbeSettings:
    """How a probe is trained.

    Attributes:
        batch_size: images per step, over all devices together (PLP: 256 on CIFAR, 8192 on ImageNet).
        shots: training images of each class; None for all. The features are standardised with these images alone.
        seed: of the head's start and the draw of the shots, None for that of the run (`seed_everything`); the order of
            the images has `data.loader.seed`.
    """

    batch_size: int = 256
    shots: int | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        check_count("`model.training.batch_size`", self.batch_size)
        check_count("`model.training.shots`", self.shots, null="all images")
        check_count("`model.training.seed`", self.seed, least=0, null="the run's")


def training_rows(
    probe: Probe,
    outputs: StoredOutputs,
    keys: Int[Tensor, " rows"],
    targets: Int[Tensor, " rows"],
    settings: ProbeSettings,
    class_names: Sequence[str],
) -> TrainingRows:
    """Return the rows to train on, after the probe has learnt their mean and variance; says which classes lack images.

    Raises:
        MmoodError: no image is left.
    """
    if is_first_rank():
        counts = torch.bincount(targets, minlength=len(class_names)).tolist()
        for sentence in lacking(counts, class_names, settings.shots):
            complain(sentence)
    if settings.shots is not None:
        drawn = few_shot(targets, settings.shots, settings.seed or 0)
        keys, targets = keys[drawn], targets[drawn]
    if len(keys) == 0:
        raise MmoodError("There is no image to train the probe on; lower `model.confidence`, or check `data.train`.")
    probe.learn_statistics(outputs, keys)
    return TrainingRows(outputs.get("features"), keys, targets, settings.batch_size, outputs.get("embedding"))


def optimisation(
    probe: Probe, grid: GridSettings, optimizer: OptimizerCallable, schedule: ScheduleCallable, trainer: Trainer
) -> OptimizerLRScheduler:
    """Return the optimiser, a group of parameters for each head, and its schedule, stepped after every batch."""
    groups = [
        {"params": list(linear.parameters()), **option}
        for _, heads in probe.by_kind()
        for linear, option in zip(heads.heads, grid.options(), strict=True)
    ]
    return stepped(optimizer(groups), schedule, trainer)


def epoch_ends(trainer: Trainer) -> bool:
    """Return whether the batch that was just trained on is the last of its epoch, or of the run."""
    return trainer.is_last_batch or trainer.global_step == trainer.max_steps


def probe_state(probe: Probe) -> dict[str, Tensor]:
    """Return what a checkpoint holds: heads, standardisation and choice, a few kilobytes per class."""
    return {f"probe.{name}": tensor for name, tensor in probe.state_dict().items()}


def chosen(probe: Probe, grid: GridSettings) -> dict[str, object]:
    """Return what the chosen head reads, and how it was trained where the grid says so."""
    kind, _, number = probe.choice()
    return {"reads": kind, **grid.options()[number]}


def chooses(probe: Probe) -> bool:
    """Return whether there are several heads, of which the ID validation set chooses one."""
    return sum(len(heads.heads) for _, heads in probe.by_kind()) > 1
