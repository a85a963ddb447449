"""Writes the learned prompts at the end of a fit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import final

from lightning.pytorch import Callback, LightningModule, Trainer

from mmood.output.printing import say
from mmood.prompts import LEARNED, LearnedPrompts, save_prompts

FOLDER = "prompts"
"""The folder of the learned prompts in that of the run."""


@final
class SavePrompts(Callback):
    """Writes `prompts/` in the run's folder when a fit ends, and says how to use it.

    Args:
        learned: returns the prompts.
    """

    def __init__(self, learned: Callable[[], LearnedPrompts]) -> None:
        self._learned = learned

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the prompts; not those of a trial run of a few batches, nor of a run that took no step."""
        if trainer.global_rank > 0 or trainer.fast_dev_run or not trainer.global_step:  # type: ignore[attr-defined]
            return
        folder = Path(trainer.default_root_dir) / FOLDER
        save_prompts(self._learned(), folder)
        say(f"Learned prompts: {folder}; --model.prompts {LEARNED}{folder} gives them to ZeroShot.")
