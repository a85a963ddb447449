"""A callback that takes the batches of every kind of evaluation alike; Lightning calls a method of its own for each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer


class EachBatch(Callback, ABC):
    """Hands the outputs of every validation, test and prediction step to `take`."""

    @abstractmethod
    def take(self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, dataloader_idx: int) -> None:
        """Take what a step returned of a batch; `dataloader_idx` is the place of the set among those of the stage."""

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Take a batch of a validation."""
        self.take(trainer, pl_module, outputs, batch, dataloader_idx)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Take a batch of a test."""
        self.take(trainer, pl_module, outputs, batch, dataloader_idx)

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Take a batch of a prediction."""
        self.take(trainer, pl_module, outputs, batch, dataloader_idx)
