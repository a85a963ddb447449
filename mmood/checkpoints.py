"""What a checkpoint says of the run that wrote it: its resolved `model` and `data` settings."""

from __future__ import annotations

import atexit
import pickle
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml

from mmood.errors import MmoodError

KEY = "mmood"
# Lightning's own words for a checkpoint, resolved by the trainer.
_SPECIAL = ("best", "last", "hpc", "registry")


def stored_config(arguments: list[str]) -> list[str]:
    """Return `["--config", FILE]` with the settings of the checkpoint that `--ckpt_path` names, or `[]`.

    The file comes first on the command line, so that configs and flags win over it.

    Raises:
        MmoodError: the checkpoint does not exist, cannot be read, or was not written by mmood.
    """
    path = _named(arguments)
    if path is None or path.startswith(_SPECIAL):
        return []
    config = read_config(Path(path))
    with tempfile.NamedTemporaryFile("w", suffix=".yaml", prefix="mmood-checkpoint-", delete=False) as file:
        yaml.safe_dump(config, file, sort_keys=False)
    atexit.register(Path(file.name).unlink, missing_ok=True)
    return ["--config", file.name]


def read_config(path: Path) -> dict[str, Any]:
    """Return the `model` and `data` settings that a checkpoint holds, as plain data; nothing in it is executed."""
    if not path.is_file():
        raise MmoodError(f"--ckpt_path {path} does not exist; name a checkpoint file.")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise MmoodError(f"--ckpt_path {path} cannot be read as a checkpoint: {reason[:200]}") from error
    if not isinstance(checkpoint, Mapping) or not isinstance(checkpoint.get(KEY), Mapping):
        raise MmoodError(f"--ckpt_path {path} was not written by mmood; it holds no '{KEY}' settings.")
    return {group: checkpoint[KEY][group] for group in ("model", "data")}


def _named(arguments: list[str]) -> str | None:
    for position, argument in enumerate(arguments):
        flag, joined, value = argument.partition("=")
        if flag == "--ckpt_path":
            return value if joined else next(iter(arguments[position + 1 :]), None)
    return None
