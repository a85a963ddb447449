"""The module and the data that `mmood test` would evaluate, outside of a run."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lightning.pytorch import Trainer

from mmood.data.datamodule import OoDDataModule
from mmood.features.encoding import Ranks
from mmood.modules.base import AbstractDetector
from mmood.runs.checkpoints import load_weights, stored_config

if TYPE_CHECKING:
    from mmood.dense.data import DenseDataModule
    from mmood.dense.detector import AbstractDenseDetector


def module_from_settings(
    arguments: Sequence[str], checkpoint: str | Path | None = None
) -> tuple[AbstractDetector, OoDDataModule]:
    """Return module and data, the module with its weights and on its device; its scores are not fitted.

    Args:
        arguments: as on the command line, such as `["--config", "vitb16_zeroshot.yaml", "--data.root", "shards"]`.
        checkpoint: trained weights; their settings come first, as with `--ckpt_path`.

    Raises:
        MmoodError: the settings or the checkpoint are wrong, or are those of a model that scores pixels.
    """
    module, data, _ = from_settings(arguments, checkpoint, pixels=False)
    assert isinstance(module, AbstractDetector), "of the family of images"
    assert isinstance(data, OoDDataModule), "of the family of images"
    return module, data


def from_settings(
    arguments: Sequence[str], checkpoint: str | Path | None, pixels: bool
) -> tuple[AbstractDetector | AbstractDenseDetector, OoDDataModule | DenseDataModule, Trainer]:
    """Return what `module_from_settings` does, and the trainer; with `pixels` the model may score pixels."""
    from mmood.configuration.lightning import built

    stored = stored_config(["--ckpt_path", str(checkpoint)]) if checkpoint is not None else []
    # A trainer has a run folder; this one is given back, for nothing runs.
    with tempfile.TemporaryDirectory() as folder:
        cli = built([*stored, *arguments, "--run_dir", folder], pixels)
        module, data, trainer = cli.model, cli.datamodule, cli.trainer
        if checkpoint is not None:
            load_weights(module, Path(checkpoint), "The checkpoint")
        if isinstance(module, AbstractDetector):
            ranks = Ranks.alone(str(trainer.precision), trainer.precision_plugin.forward_context)
            module.join(data, ranks, Path(folder))
        return module.to(trainer.strategy.root_device).eval(), data, trainer
