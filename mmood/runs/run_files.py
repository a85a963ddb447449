"""The files that every run leaves besides its results: the resolved config, and the settings inside checkpoints."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import Namespace
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import SaveConfigCallback
from lightning.pytorch.trainer.states import TrainerFn

from mmood import __version__
from mmood.files import write_atomically
from mmood.runs.checkpoints import KEY
from mmood.runs.requeue import job_id
from mmood.settings import plain
from mmood.settings.seeds import resolved_seeds


class RunFiles(SaveConfigCallback):
    """Writes `config.<stage>.yaml` into the run folder and the resolved settings into every checkpoint.

    A second run into the same folder replaces the config of its own stage and no other file.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write the config, on rank 0."""
        if trainer.is_global_zero:
            text = _seeds_said(self.config) + self.parser.dump(self.config, skip_none=False)
            write_atomically(Path(trainer.default_root_dir) / f"config.{TrainerFn(stage).value}.yaml", text.encode())

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep `model` and `data` as plain data, so that the checkpoint alone is enough to test it."""
        config = yaml.safe_load(self.parser.dump(self.config, skip_none=False))
        # The class names by content: the file that they came from may be gone.
        config["data"]["class_names"] = list(pl_module.class_names)  # type: ignore[arg-type]
        checkpoint[KEY] = {
            "version": __version__,
            # Only this job goes on from the checkpoint by itself, when it is requeued.
            "job": job_id(),
            # What is open among `model` and `data` follows from it; see `resolved_seeds`.
            "seed_everything": config["seed_everything"],
            "seeds": {key: plain(value, key) for key, value in resolved_seeds(config).items()},
            "model": _anchored(config["model"]),
            "data": _anchored(config["data"]),
        }


def _seeds_said(config: Namespace) -> str:
    """Return, as a comment, the seeds that a config leaves open to `seed_everything`."""
    seeds = resolved_seeds(config)
    return "".join(
        f"# {key} follows seed_everything: {list(value) if isinstance(value, tuple) else value}\n"
        for key, value in seeds.items()
    )


def _anchored(value: Any) -> Any:
    """Return the settings with the paths of this folder made absolute."""
    if isinstance(value, dict):
        return {key: _anchored(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_anchored(item) for item in value]
    if isinstance(value, str):
        prefix, joined, path = value.rpartition("local-dir:")
        # A bare word such as a set's name is not a path, even where a file of that name exists.
        if joined or (os.sep in path and ":" not in path and Path(path).exists()):
            return prefix + joined + str(Path(path).absolute())
    return value
