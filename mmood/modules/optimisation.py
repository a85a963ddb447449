"""The optimiser of a run and its learning rate."""

from __future__ import annotations

import math
from collections.abc import Callable

from lightning.pytorch.trainer import Trainer
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch.optim.lr_scheduler import LambdaLR, LRScheduler
from torch.optim.optimizer import Optimizer

from mmood.errors import MmoodError

ScheduleCallable = Callable[[Optimizer, int], LRScheduler]
"""From the optimiser and the number of steps of the whole run to its learning rates, stepped after every batch.

Of `PromptLearning` from the number of epochs, stepped after every epoch.
"""


def warmup_cosine(step: int, steps: int, warmup: int, floor: float = 0.0) -> float:
    """Return the share of the peak learning rate at a step: linear from 0, then a half cosine to `floor` at `steps`.

    >>> [warmup_cosine(step, 10, 4) for step in (0, 2, 4, 7, 10)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    if step < warmup:
        return step / warmup
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


class WarmupCosine(LambdaLR):
    """Scales the learning rate by `warmup_cosine`.

    Args:
        optimizer: whose learning rates are the peaks.
        steps: of the whole run.
        warmup: of them, the first on which the rate rises. A run no longer than that never reaches the peak.
        floor: share of the peak at the end of the run.
    """

    def __init__(self, optimizer: Optimizer, steps: int, warmup: int = 500, floor: float = 0.0) -> None:
        super().__init__(optimizer, lambda step: warmup_cosine(step, steps, warmup, floor))


class ShareWarmupCosine(LambdaLR):
    """Linear warm-up from 0 over a share of the steps, then a half cosine to 0 at the last one.

    Args:
        optimizer: whose learning rates are the peaks.
        steps: of the whole run.
        share: of the steps in which the rate rises.
    """

    def __init__(self, optimizer: Optimizer, steps: int, share: float = 0.1) -> None:
        super().__init__(optimizer, lambda step: warmup_cosine(step, steps, round(share * steps)))


def constant_warmup_cosine(epoch: int, epochs: int) -> float:
    """Return the share of the base rate in an epoch >= 1, counted from 0: a cosine that begins in epoch 1 with all.

    With E epochs it is (1 + cos(pi e / E)) / (1 + cos(pi / E)): epoch 0 is the warm-up's, and CoOp's recursion starts
    from the base rate after it.

    >>> [round(constant_warmup_cosine(epoch, 4), 3) for epoch in (1, 2, 3)]
    [1.0, 0.586, 0.172]
    """
    return (1 + math.cos(math.pi * epoch / epochs)) / (1 + math.cos(math.pi / epochs)) if epochs > 1 else 1.0


class ConstantWarmupCosine(LambdaLR):
    """CoOp's schedule (arXiv 2109.01134): a constant small rate in the first epoch, then a cosine over the epochs.

    Args:
        optimizer: whose learning rates are those of the second epoch.
        epochs: of the whole run.
        warmup_rate: the rate of the first epoch.
    """

    def __init__(self, optimizer: Optimizer, epochs: int, warmup_rate: float = 1e-5) -> None:
        def share(base: float) -> Callable[[int], float]:
            return lambda epoch: warmup_rate / base if epoch == 0 else constant_warmup_cosine(epoch, epochs)

        super().__init__(optimizer, [share(group["lr"]) for group in optimizer.param_groups])


class ConstantRate(LambdaLR):
    """Keeps the learning rate as it is.

    Args:
        optimizer: whose learning rates stay.
        steps: of the whole run, which change nothing.
    """

    def __init__(self, optimizer: Optimizer, steps: int) -> None:
        super().__init__(optimizer, lambda step: 1.0)


def fused(optimizer: Optimizer) -> Optimizer:
    """Let an optimiser of torch take its step in one pass over the parameters, where its settings leave that open.

    The formula is the same; only the rounding differs. Returns the optimiser.

    >>> parameter = torch.zeros(1, requires_grad=True)
    >>> fused(torch.optim.AdamW([parameter])).param_groups[0]["fused"]
    True
    >>> fused(torch.optim.AdamW([parameter], fused=False)).param_groups[0]["fused"]
    False
    """
    for group in optimizer.param_groups:
        if "fused" in group and group["fused"] is None and not (group["foreach"] or group["differentiable"]):
            group["fused"] = True
    return optimizer


def stepped(optimizer: Optimizer, schedule: ScheduleCallable, trainer: Trainer) -> OptimizerLRScheduler:
    """Return an optimiser, fused where it can be, and its schedule, stepped after every batch.

    Raises:
        MmoodError: the run has no end, to which the schedule leads.
    """
    # A fused optimiser unscales the gradients of float16 itself, after they would have been clipped.
    if trainer.precision != "16-mixed" or trainer.gradient_clip_val is None:
        fused(optimizer)
    return {
        "optimizer": optimizer,
        "lr_scheduler": {"scheduler": schedule(optimizer, total_steps(trainer)), "interval": "step"},
    }


def refuse_accumulation(trainer: Trainer, others: str) -> None:
    """Raise MmoodError if gradients are accumulated over batches: `others` of other batches would not be compared."""
    if trainer.accumulate_grad_batches != 1:
        raise MmoodError(
            f"`trainer.accumulate_grad_batches` is {trainer.accumulate_grad_batches}, but each image of a contrastive "
            f"batch is compared with all {others} of that batch; raise `data.batch_size` and set "
            "`model.execution.chunk` to the number of images that fit in memory."
        )


def total_steps(trainer: Trainer) -> int:
    """Return the number of optimiser steps of the whole run; MmoodError if it has no end."""
    steps = trainer.estimated_stepping_batches
    if math.isinf(steps):
        raise MmoodError("The learning rate falls to 0 at the end of the run; set `trainer.max_epochs` or `max_steps`.")
    return int(steps)
