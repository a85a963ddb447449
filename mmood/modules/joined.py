"""Joins a detector to the data that a Trainer runs it over."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import final

from lightning.pytorch import Callback, LightningModule, Trainer

from mmood.data.datamodule import OoDDataModule
from mmood.features.encoding import Ranks

Join = Callable[[OoDDataModule | None, Ranks, Path, bool], None]
"""From the data, if they are an OoDDataModule, the processes, the folder of the run and whether to be quiet."""


@final
class JoinData(Callback):
    """Tells a detector at the start of every run what it runs over. Detectors bring it along.

    This is the one place that looks into the Trainer for the data: everything else is given what it needs.

    Args:
        join: the detector's `join`.
    """

    def __init__(self, join: Join) -> None:
        self._join = join

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Join the two; the sets are checked by now, and no loader is made yet."""
        data: object = getattr(trainer, "datamodule", None)
        found = data if isinstance(data, OoDDataModule) else None
        quiet = trainer.progress_bar_callback is None
        self._join(found, Ranks.of(trainer), Path(trainer.default_root_dir), quiet)
