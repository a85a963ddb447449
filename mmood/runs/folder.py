"""Which folder a run writes to, the same on every rank without asking one another."""

from __future__ import annotations

import os
from pathlib import Path

from mmood.errors import MmoodError
from mmood.files import user_path

_INHERITED = "MMOOD_RUN_DIR"


def run_folder(given: str | None, name: str) -> Path:
    """Return the absolute folder of this run, made if it does not exist.

    `given` wins; a `~` in it is the home folder. Otherwise it is `runs/NAME/VERSION`: VERSION is the job's id under
    SLURM (a requeued job finds its folder again) or torchrun (`--rdzv-id`), else the next free number, which processes
    that Lightning starts inherit.

    Raises:
        MmoodError: several processes were started from outside without an id that they share, or the folder cannot be
            written.
    """
    folder = (known_folder(given, name) or _next_version(Path("runs") / name)).absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot_be_made(folder, error) from error
    if not os.access(folder, os.W_OK):
        raise MmoodError(f"The run folder {folder} is read-only; set --run_dir to a writable folder.")
    os.environ[_INHERITED] = str(folder)
    return folder


def known_folder(given: str | None, name: str) -> Path | None:
    """Return the folder of this run if it can be named before it is made; None if it will be the next free number.

    Raises:
        MmoodError: see `run_folder`; or `given` or `name` can be no name of a folder.
    """
    for setting, text in (("--run_dir", given), ("--name", name)):
        if text is not None and "\0" in text:
            raise MmoodError(f"{setting} is {text!r:.80}; the name of a folder cannot contain a NUL character.")
    if given:
        return user_path(given)
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise MmoodError(f"--name is {name!r:.80}, which leaves the folder runs/; set --run_dir to write elsewhere.")
    parent, environment = Path("runs") / name, os.environ
    if _INHERITED in environment and int(environment.get("LOCAL_RANK", 0)) > 0:
        return Path(environment[_INHERITED])
    if "SLURM_JOB_ID" in environment:
        return parent / f"job_{environment['SLURM_JOB_ID']}"
    if environment.get("TORCHELASTIC_RUN_ID", "none") != "none":
        return parent / f"job_{environment['TORCHELASTIC_RUN_ID']}"
    if "RANK" in environment and int(environment.get("WORLD_SIZE", 1)) > 1:
        raise MmoodError(
            f"{environment['WORLD_SIZE']} processes were started without a shared job id; set --run_dir to the folder "
            "of the run."
        )
    return None


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
