"""The module and the data that `mmood test` would evaluate, outside of a run."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from lightning.pytorch import Callback

from mmood.data.datamodule import OoDDataModule
from mmood.dense.callback import DenseCallback
from mmood.dense.data import DenseDataModule
from mmood.dense.detector import AbstractDenseDetector
from mmood.features.encoding import Ranks
from mmood.modules.base import AbstractDetector
from mmood.runs.checkpoints import load_weights, stored_config


def module_from_settings(
    arguments: Sequence[str], checkpoint: str | Path | None = None
) -> tuple[AbstractDetector, OoDDataModule]:
    """Return module and data, the module with its weights and on its device; its scores are not fitted.

    Args:
        arguments: as on the command line, such as `["--config", "vitb16_zeroshot.yaml", "--data.root", "shards"]`.
        checkpoint: trained weights; their settings come first, as with `--ckpt_path`.

    Raises:
        MmoodError: the settings or the checkpoint are wrong.
    """
    from mmood.configuration.lightning import built

    stored = stored_config(["--ckpt_path", str(checkpoint)]) if checkpoint is not None else []
    # A trainer has a run folder; this one is given back, for nothing runs.
    with tempfile.TemporaryDirectory() as folder:
        cli = built([*stored, *arguments, "--run_dir", folder])
        module, trainer = cli.model, cli.trainer
        if checkpoint is not None:
            load_weights(module, Path(checkpoint), "The checkpoint")
        ranks = Ranks.alone(str(trainer.precision), trainer.precision_plugin.forward_context)
        module.join(cli.datamodule, ranks, Path(folder))
        return module.to(trainer.strategy.root_device).eval(), cli.datamodule


def dense_from_settings(
    arguments: Sequence[str], checkpoint: str | Path | None = None
) -> tuple[AbstractDenseDetector, DenseDataModule, DenseCallback]:
    """Return what `module_from_settings` does for a model that scores pixels, and the settings of its evaluation.

    Raises:
        MmoodError: the settings or the checkpoint are wrong.
    """
    from mmood.configuration.lightning import built_dense

    stored = stored_config(["--ckpt_path", str(checkpoint)]) if checkpoint is not None else []
    with tempfile.TemporaryDirectory() as folder:
        cli = built_dense([*stored, *arguments, "--run_dir", folder])
        module, data, trainer = cli.model, cli.datamodule, cli.trainer
        if checkpoint is not None:
            load_weights(module, Path(checkpoint), "The checkpoint")
        module.training_images = None if data.train is None else data.training_images
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        (evaluation,) = (callback for callback in callbacks if isinstance(callback, DenseCallback))
        return module.to(trainer.strategy.root_device).eval(), data, evaluation
