"""Saving a run whose job is about to end, at a position from which all its processes can resume."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, final

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from mmood.errors import MmoodError
from mmood.runs.requeue import EXIT_CODE, asked, begin_saving

NAME = "requeue.ckpt"


@final
class Requeue(Callback):
    """Saves `requeue.ckpt` and ends every process once one of them was asked to make room.

    All processes agree after a step of the optimiser, and before the first batch of every validation set: there every
    one of them comes by. A run that is saved within a validation validates again from the start.

    Args:
        folder: where the checkpoint is written.

    Raises:
        SystemExit: with `mmood.runs.requeue.EXIT_CODE`, after the checkpoint is on disk.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._steps = 0
        self._validating = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the step to resume from; MmoodError if a process does not see the same checkpoint as the others."""
        self._steps = trainer.global_step
        steps = trainer.strategy.all_gather(torch.tensor(self._steps, device=trainer.strategy.root_device))
        if (steps != self._steps).any():
            raise MmoodError(
                f"The processes would resume from steps {sorted(set(steps.tolist()))}, because they do not see the "
                "same checkpoints. "
                f"{self._folder} must be on a file system that all nodes share."
            )

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save after a step of the optimiser, when no gradients are held; not after an epoch's last one.

        There the validation follows, or the next epoch's first step.
        """
        if trainer.global_step == self._steps:
            return
        self._steps = trainer.global_step
        if not trainer.is_last_batch:
            self._leave_if_asked(trainer)

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Save before a set is scored: every process has at least one batch of each."""
        if batch_idx == 0 and trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._validating = True
            self._leave_if_asked(trainer)
            self._validating = False

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Let a validation that this run leaves begin again: Lightning would go on in its middle, or pass it over."""
        if self._validating:
            at_first_batch = {"ready": 1, "started": 1, "processed": 0, "completed": 0}
            progress = checkpoint["loops"]["fit_loop"]["epoch_loop.val_loop.batch_progress"]
            progress.update(total=dict(at_first_batch), current=dict(at_first_batch), is_last_batch=False)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Delete the checkpoint of an earlier turn: the run is complete."""
        if trainer.is_global_zero:
            (self._folder / NAME).unlink(missing_ok=True)

    def _leave_if_asked(self, trainer: Trainer) -> None:
        # The signal comes to the processes at different times.
        if not trainer.strategy.reduce_boolean_decision(asked(), all=False):
            return
        begin_saving()
        trainer.save_checkpoint(self._folder / NAME)
        if trainer.is_global_zero:
            saved = f"mmood: saved {self._folder / NAME} at step {trainer.global_step}"
            print(f"{saved}; exit code {EXIT_CODE} tells the job script to requeue the job.", file=sys.stderr)
        raise SystemExit(EXIT_CODE)
