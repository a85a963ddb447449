"""A training whose loss is no number any more ends, and nothing of it replaces a checkpoint that was good."""

from __future__ import annotations

from typing import Any, final

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from mmood.errors import MmoodError
from mmood.runs.ending_callback import last_checkpoint

_EVERY = 50
"""Steps between two looks: each waits for the device."""


@final
class FiniteLoss(Callback):
    """Ends a training whose loss has become NaN or infinite and stayed so.

    A single such step passes: under 16-mixed it is left out, and the weights are as before. Weights that are not finite
    give such a loss at every step.

    Raises:
        MmoodError: before anything is evaluated or saved with such weights; names the step and the last checkpoint.
    """

    def __init__(self) -> None:
        self._since: Tensor | None = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note on the device since which step the loss is not finite, and look now and then."""
        loss = outputs["loss"].detach()
        none = torch.full((), -1, device=loss.device)
        since = none if self._since is None else self._since
        step = torch.full_like(none, trainer.global_step)
        self._since = torch.where(loss.isfinite(), none, torch.where(since < 0, step, since))
        if trainer.global_step % _EVERY == 0:
            self._check(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look before anything is evaluated."""
        self._check(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the end of an epoch."""
        self._check(trainer)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Look before anything is written."""
        self._check(trainer)

    def _check(self, trainer: Trainer) -> None:
        since = -1 if self._since is None else int(self._since)
        if since >= 0:
            last = last_checkpoint(trainer)
            kept = "no checkpoint was written before" if last is None else f"the last good checkpoint is {last}"
            raise MmoodError(
                f"The loss has not been finite since step {since}, so training stops; {kept}. Lower the learning "
                "rate, or train in 32-true."
            )
