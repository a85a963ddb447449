"""The files that every run leaves besides its results: the resolved config, and the settings inside checkpoints."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import Namespace
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import SaveConfigCallback
from lightning.pytorch.trainer.states import TrainerFn

from mmood import __version__
from mmood.files import write_atomically
from mmood.runs.checkpoints import KEY, TRAINING
from mmood.runs.earlier import put_aside
from mmood.runs.identity import RUN_ID, new_run_id
from mmood.runs.requeue import job_id
from mmood.settings import plain
from mmood.settings.seeds import resolved_seeds

# A set that is a path (`mmood.sets.places`).
_SET = re.compile(r"((?:[A-Za-z0-9._-]+=)?(?:folder|zip|list):|[A-Za-z0-9._-]+=(?=[^:]*/))(.+)")


class RunFiles(SaveConfigCallback):
    """Begins a run: its id, its `config.<stage>.yaml` in the run folder, the resolved settings in every checkpoint.

    What an earlier run of the stage left in the folder is put aside.
    """

    run: str | None = None
    """The id of the run, once it has begun; the same on every rank."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Begin the run, once: an evaluation of several weights is one run."""
        if self.run is not None:
            return
        name = TrainerFn(stage).value
        self.run = begin_run(trainer, name, self.config.get("ckpt_path"))
        if trainer.is_global_zero:
            settings = _seeds_said(self.config) + self.parser.dump(self.config, skip_none=False)
            text = f"{run_line(self.run)}\n{settings}"
            write_atomically(Path(trainer.default_root_dir) / f"config.{name}.yaml", text.encode())

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep the settings as plain data, so that the checkpoint alone is enough to test it, or to resume training."""
        config = yaml.safe_load(self.parser.dump(self.config, skip_none=False))
        # The class names by content: the file that they came from may be gone.
        if "class_names" in config["data"]:
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
            "trainer": {key: config["trainer"][key] for key in TRAINING if key in config["trainer"]},
        }


def _seeds_said(config: Namespace) -> str:
    """Return, as a comment, the seeds that a config leaves open to `seed_everything`."""
    seeds = resolved_seeds(config)
    return "".join(
        f"# {key} follows seed_everything: {list(value) if isinstance(value, tuple) else value}\n"
        for key, value in seeds.items()
    )


def run_line(run: str) -> str:
    """Return the first line of the config of a run."""
    return f"# run {run}"


def run_of_config(text: str) -> str | None:
    """Return the id in a config that a run wrote, None if there is none."""
    line = text.partition("\n")[0]
    run = line.rpartition(" ")[2]
    return run if RUN_ID.fullmatch(run) and line == run_line(run) else None


def begin_run(trainer: Trainer, stage: str, checkpoint: str | None = None) -> str:
    """Return the id of a run that begins now, with the files of an earlier one put aside; every rank must call this.

    Args:
        trainer: of the run.
        stage: fit, validate, test or predict.
        checkpoint: the checkpoint to resume from.
    """
    if trainer.is_global_zero:
        put_aside(Path(trainer.default_root_dir), stage, checkpoint)
    # Ranks wait here for rank 0: none may write before it is done.
    return new_run_id(trainer)


def run_id(trainer: Trainer, stage: str) -> str:
    """Return the id of the run under way; begun now, where no command line has begun it. Every rank must call this."""
    found = next((each.run for each in trainer.callbacks if isinstance(each, RunFiles)), None)  # type: ignore[attr-defined]
    return begin_run(trainer, stage) if found is None else found


def _anchored(value: Any) -> Any:
    """Return the settings with the paths of this folder made absolute."""
    if isinstance(value, dict):
        return {key: _anchored(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_anchored(item) for item in value]
    if isinstance(value, str):
        prefix, joined, path = value.rpartition("local-dir:")
        if found := _SET.fullmatch(value):
            prefix, joined, path = "", found[1], found[2]
        # A bare word such as a set's name is not a path, even where a file of that name exists.
        if joined or (os.sep in path and ":" not in path and Path(path).exists()):
            return prefix + joined + str(Path(path).absolute())
    return value
