"""The progress of a run, which names the current set: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import time
from typing import Any, final

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar, RichProgressBar
from lightning.pytorch.trainer.states import TrainerFn

from mmood.output.console import console
from mmood.output.printing import note

_EVERY = 30.0
"""Seconds between two lines of training."""


@final
class SetProgressBar(RichProgressBar):
    """Lightning's progress bar with the name of the set, which Lightning leaves out."""

    @property
    def test_description(self) -> str:
        """The title of the bar in a test."""
        return _named("Testing", self.trainer.test_dataloaders, self._current_eval_dataloader_idx)

    @property
    def validation_description(self) -> str:
        """The title of the bar in a validation."""
        return _named("Validation", self.trainer.val_dataloaders, self._current_eval_dataloader_idx)


@final
class SetLines(ProgressBar):
    """A line for each set, and for an epoch of training if the last line is half a minute old or it is the last.

    To Lightning it is a bar, so everything else that shows progress does so, too.
    """

    def __init__(self) -> None:
        super().__init__()
        self._enabled = True
        self._last = -math.inf

    def disable(self) -> None:
        """Print nothing, as on all ranks but the first."""
        self._enabled = False

    def enable(self) -> None:
        """Print again."""
        self._enabled = True

    def on_test_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Say which set begins."""
        if batch_idx == 0:
            self._note(_named("Testing", trainer.test_dataloaders, dataloader_idx))

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Say which set begins, outside of training: there it would be a line for each set and epoch."""
        if batch_idx == 0 and trainer.state.fn == TrainerFn.VALIDATING:
            self._note(_named("Validation", trainer.val_dataloaders, dataloader_idx))

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say that prediction begins."""
        self._note("Predicting")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say where training is, with what the bar would show."""
        done, last, now = trainer.current_epoch + 1, trainer.max_epochs or -1, time.monotonic()
        if now - self._last < _EVERY and done != last:
            return
        self._last = now
        metrics = (f", {name} {float(f'{value:.4g}'):g}" for name, value in trainer.progress_bar_metrics.items())
        self._note(f"Epoch {done}{f' of {last}' if last > 0 else ''}{''.join(metrics)}")

    def _note(self, what: str) -> None:
        if self._enabled:
            note(what)


def with_progress(callbacks: Callback | list[Callback] | None, wanted: bool | None) -> list[Callback]:
    """Return the callbacks that the user gave, and progress unless there is a bar or none is wanted.

    Args:
        callbacks: those that the user gave.
        wanted: true for a bar; None for a bar on a terminal, and lines elsewhere.
    """
    given = [] if callbacks is None else callbacks if isinstance(callbacks, list) else [callbacks]
    if wanted is False or any(isinstance(callback, ProgressBar) for callback in given):
        return given
    return [*given, SetProgressBar() if wanted or console().is_interactive else SetLines()]


def _named(what: str, loaders: object, number: int | None) -> str:
    """Return the description for the loader of this number; its name is the set's.

    >>> _named("Testing", {"sun": None, "places": None}, 1)
    'Testing places'
    """
    names = list(loaders) if isinstance(loaders, dict) else []
    return what if number is None or number >= len(names) else f"{what} {names[number]}"
