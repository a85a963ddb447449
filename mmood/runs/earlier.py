"""What an earlier run left in a run folder: a new one refuses to replace it, or puts it aside."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from mmood.errors import MmoodError
from mmood.runs.requeue import turns

PREVIOUS = "previous"
"""Folder in a run folder for what the last run but one left."""

_EVALUATED = ("results.json", "results.csv", "results.md", "results.tex", "dense.json", "scores", "maps", "benchmarks")
# Stage -> what a run of it leaves besides its config; validate and test write the same files.
_LEFT = {
    "fit": ("checkpoints",),
    "validate": _EVALUATED,
    "test": _EVALUATED,
    "predict": ("predictions.csv", "maps"),
    "attack": (*_EVALUATED, "attack.json", "attack.csv", "attack.md", "attack.svg", "attacked"),
}
# Stage -> what is there when a run of it has come to something.
_RESULT = {
    "fit": ("checkpoints/*.ckpt",),
    "validate": ("results.json", "benchmarks/*/results.json"),
    "test": ("results.json", "benchmarks/*/results.json"),
    "predict": ("predictions.csv",),
    "attack": ("attack.json", "results.json"),
}
_STAGES_THAT_SHARE = {stage: ("validate", "test", "attack") for stage in ("validate", "test", "attack")}


def refuse_earlier(folder: Path, stage: str, checkpoint: str | None) -> None:
    """Raise MmoodError if a run of this stage would replace what an earlier one left in the folder.

    Args:
        folder: of the run; it need not exist.
        stage: fit, validate, test or predict. Each may follow another one in the same folder.
        checkpoint: the checkpoint to resume from. If it is in the folder, this is the same training.
    """
    if goes_on(folder, stage, checkpoint):
        return
    found = next((path for pattern in _RESULT[stage] for path in sorted(folder.glob(pattern))), None)
    if found is not None:
        raise MmoodError(
            f"The run folder {folder} holds {found.relative_to(folder)} of an earlier run; name another folder with "
            "--run_dir, or set --overwrite true."
        )


def goes_on(folder: Path, stage: str, checkpoint: str | None) -> bool:
    """Return whether a run continues an earlier one in the folder: its job was restarted, or it resumes training."""
    if turns() > 0 or int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)) > 0:
        return True
    return stage == "fit" and checkpoint is not None and Path(checkpoint).absolute().is_relative_to(folder.absolute())


def put_aside(folder: Path, stage: str, checkpoint: str | None) -> None:
    """Move what an earlier run of this stage left in the folder to `previous/`, in place of what lies there.

    From then on a file of the stage is of this run, also if the run is killed between two files. A training that goes
    on keeps its checkpoints.
    """
    kept = ("checkpoints",) if goes_on(folder, stage, checkpoint) else ()
    configs = [f"config.{each}.yaml" for each in _STAGES_THAT_SHARE.get(stage, (stage,))]
    for name in [*_LEFT[stage], *configs]:
        source, target = folder / name, folder / PREVIOUS / name
        if name in kept or not source.exists():
            continue
        if target.is_dir():
            shutil.rmtree(target)
        target.parent.mkdir(exist_ok=True)
        source.replace(target)
