"""What a Trainer has to do with signals: its own handlers get in the way, it has ranks, and writes checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import final

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher

from mmood.runs.signals import leaves, take_back


@final
class EndAtSignals(Callback):
    """Lets a signal end a run wherever it stands, and `fit` say where its last checkpoint is.

    Lightning's handler of SIGTERM starts a collective wherever the process is, and then waits for the end of the batch:
    while scores are fitted, and while streams run, nothing comes of it.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Know the other ranks, and what `fit` leaves."""
        launcher = trainer.strategy.launcher
        take_back(launcher.kill if isinstance(launcher, _SubprocessScriptLauncher) else None)
        if trainer.state.fn == "fit":
            leaves("fit", lambda: _outcome(trainer))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the signals back."""
        take_back()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the signals back."""
        take_back()

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the signals back."""
        take_back()

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the signals back."""
        take_back()


def last_checkpoint(trainer: Trainer) -> str | None:
    """Return the path of the last checkpoint that a training has written, None before the first.

    Where one callback keeps the best epoch and another the last one, it is the newest file of both.
    """
    callbacks = [callback for callback in trainer.checkpoint_callbacks if isinstance(callback, ModelCheckpoint)]
    named = [path for one in callbacks for path in (one.best_model_path, one.last_model_path) if path]
    written = [path for path in named if Path(path).exists()]
    return max(written, key=lambda path: Path(path).stat().st_mtime_ns, default=None)


def _outcome(trainer: Trainer) -> str:
    last = last_checkpoint(trainer)
    if last is None:
        return "No checkpoint was written yet."
    return f"`mmood fit --ckpt_path {last}` resumes from its last checkpoint."
