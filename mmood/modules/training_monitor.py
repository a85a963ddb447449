"""The loss of the training steps, and how fast they go."""

from __future__ import annotations

import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer


class TrainingMonitor(Callback):
    """Logs `train/loss` of each step and `train/images_per_s` of all devices together since training went on."""

    def __init__(self) -> None:
        self._images = 0
        self._since: float | None = None

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Start the clock at the first batch after a pause."""
        if self._since is None:
            self._since, self._images = time.perf_counter(), 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log the step."""
        assert self._since is not None
        self._images += len(batch["label"]) * trainer.world_size
        pl_module.log("train/loss", outputs["loss"], prog_bar=True)
        pl_module.log("train/images_per_s", self._images / (time.perf_counter() - self._since), prog_bar=True)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock while something else is done."""
        self._since = None

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock while something else is done."""
        self._since = None
