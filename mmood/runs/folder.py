"""Which folder a run writes to, the same on every rank without asking one another."""

from __future__ import annotations

import os
from pathlib import Path

from mmood.errors import MmoodError

_INHERITED = "MMOOD_RUN_DIR"


def run_folder(given: str | None, name: str) -> Path:
    """Return the absolute folder of this run, made if it does not exist.

    `given` wins. Otherwise it is `runs/NAME/VERSION`: VERSION is the job's id under SLURM (a requeued job finds its
    folder again) or torchrun (`--rdzv-id`), else the next free number, which processes that Lightning starts inherit.

    Raises:
        MmoodError: several processes were started from outside without an id that they share, or the folder cannot be
            written.
    """
    folder = Path(given) if given else _of_job(Path("runs") / name)
    folder = folder.absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot_be_made(folder, error) from error
    if not os.access(folder, os.W_OK):
        raise MmoodError(f"The run folder {folder} is read-only; set --run_dir to a folder that can be written.")
    os.environ[_INHERITED] = str(folder)
    return folder


def _of_job(parent: Path) -> Path:
    environment = os.environ
    if _INHERITED in environment and int(environment.get("LOCAL_RANK", 0)) > 0:
        return Path(environment[_INHERITED])
    if "SLURM_JOB_ID" in environment:
        return parent / f"job_{environment['SLURM_JOB_ID']}"
    if environment.get("TORCHELASTIC_RUN_ID", "none") != "none":
        return parent / f"job_{environment['TORCHELASTIC_RUN_ID']}"
    if "RANK" in environment and int(environment.get("WORLD_SIZE", 1)) > 1:
        raise MmoodError(
            f"{environment['WORLD_SIZE']} processes were started without an id that they share; "
            "set --run_dir to the folder of the run."
        )
    return _next_version(parent)


def _next_version(parent: Path) -> Path:
    number = 0
    while True:
        folder = parent / f"version_{number}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            number += 1
        except OSError as error:
            raise MmoodError(
                f"The run folder {folder.absolute()} cannot be made ({error.strerror}); set --run_dir."
            ) from error
        else:
            return folder


def _cannot_be_made(folder: Path, error: OSError) -> MmoodError:
    return MmoodError(f"The run folder {folder} cannot be made ({error.strerror}); set --run_dir.")
