"""What a checkpoint says of the run that wrote it: its resolved `model` and `data` settings.

A checkpoint is data, also where somebody else wrote it: nothing in it is unpickled beyond tensors and plain values, its
settings name no classes but those of mmood and torch's optimisers, and they run no command.
"""

from __future__ import annotations

import importlib.util
import math
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml

from mmood.errors import MmoodError
from mmood.runs.checkpoint_path import check_file, is_word

if TYPE_CHECKING:  # settings are read without it
    from lightning.pytorch import LightningModule

KEY = "mmood"
TRUST = "MMOOD_TRUST"
"""Environment variable: more packages, with commas between, whose classes a checkpoint may name."""

TRAINING = (
    *("max_epochs", "min_epochs", "max_steps", "min_steps", "max_time", "precision", "accumulate_grad_batches"),
    *("gradient_clip_val", "gradient_clip_algorithm", "limit_train_batches", "limit_val_batches"),
    *("val_check_interval", "check_val_every_n_epoch"),
)
"""The settings of the trainer that decide what is trained, and how long; not on which machine."""

_GROUPS = ("model", "data")
_PACKAGES = ("mmood", "torch.optim")
# Settings that jsonargparse would also take as the import path of a function.
_FUNCTIONS = ("optimizer", "schedule")
# Where classes are now that older checkpoints name elsewhere.
_MOVED = {"mmood.modules.probe_training.ShareWarmupCosine": "mmood.modules.optimisation.ShareWarmupCosine"}
_CLASS_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def stored_config(arguments: list[str], resume: bool = False) -> list[str]:
    """Return `["--config", SETTINGS]` with those of the checkpoint that `--ckpt_path` names, as YAML text, or `[]`.

    They come first on the command line, so that configs and flags win over them. No file is written: a process that is
    killed would leave it behind.

    Args:
        arguments: the command line.
        resume: the run resumes training, so the trainer's `TRAINING` settings count too.

    Raises:
        MmoodError: the checkpoint does not exist, cannot be read, was not written by mmood, or names code to run.
    """
    path = _named(arguments)
    if path is None or is_word(path):
        return []
    config = _with_moved_classes(read_config(Path(path), resume))
    _drop_commands(config["data"], path, arguments)
    return ["--config", yaml.safe_dump(config, sort_keys=False, default_flow_style=True, width=math.inf)]


def read_checkpoint(path: Path, what: str) -> Mapping[str, Any]:
    """Return the content of a checkpoint: tensors and plain values, nothing in it is executed.

    Raises:
        MmoodError: there is no such file, or it is no checkpoint; `what` begins the sentence.
    """
    check_file(path, what)
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # damaged bytes make torch's readers raise whatever their next instruction does
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise MmoodError(f"{what} {path} cannot be read as a checkpoint: {reason[:200]}") from error
    if not isinstance(checkpoint, Mapping):
        raise MmoodError(f"{what} {path} cannot be read as a checkpoint: it holds one {type(checkpoint).__name__}.")
    return checkpoint


def load_weights(module: LightningModule, path: Path, what: str) -> None:
    """Give a module the weights of a checkpoint, as a Trainer would.

    Raises:
        MmoodError: it is no checkpoint, or one of another module; `what` begins the sentence.
    """
    content = dict(read_checkpoint(path, what))
    module.on_load_checkpoint(content)
    module.load_state_dict(content["state_dict"], strict=module.strict_loading)


def readable(path: str | None) -> str | None:
    """Return what Lightning is to load for a `ckpt_path`: a file by its absolute path, so that its name is no word.

    Raises:
        MmoodError: the file is not a checkpoint; Lightning's keywords and URLs are not checked.
    """
    if path is None or "://" in path or is_word(path):
        return path
    read_checkpoint(Path(path), "--ckpt_path")
    return str(Path(path).absolute())


def read_config(path: Path, resume: bool = False) -> dict[str, Any]:
    """Return the `model` and `data` settings that a checkpoint holds, as plain data; nothing in it is executed.

    With `resume` also those of the `trainer` that are among `TRAINING`, if there are any.

    Raises:
        MmoodError: see `stored_config`.
    """
    settings = read_checkpoint(path, "--ckpt_path").get(KEY)
    if not isinstance(settings, Mapping):
        raise MmoodError(f"--ckpt_path {path} was not written by mmood; it has no '{KEY}' settings.")
    config: dict[str, Any] = {group: settings.get(group) for group in _GROUPS}
    if resume and "trainer" in settings:
        config["trainer"] = settings["trainer"]
    try:
        for group, value in config.items():
            if type(value) is not dict:
                raise MmoodError(f"--ckpt_path {path} has no settings of the {group}; name the checkpoint of a run.")
            for where, owner, name, entry in _entries(value, group):
                _check_entry(path, where, owner, name, entry)
        if unknown_keys := config.get("trainer", {}).keys() - set(TRAINING):
            raise MmoodError(
                f"--ckpt_path {path} sets trainer.{min(map(str, unknown_keys)):.80}; it may set {', '.join(TRAINING)}."
            )
    except RecursionError as error:
        raise MmoodError(f"--ckpt_path {path} has settings that are nested too deeply.") from error
    seed = settings.get("seed_everything")
    # Of older checkpoints every seed is set by itself.
    return config if seed is None else {"seed_everything": _seed(path, seed), **config}


def _seed(path: Path, seed: object) -> int | bool:
    if not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise MmoodError(f"--ckpt_path {path} has the seed {seed!r:.80}; it must be a whole number from 0.")
    return seed


def _with_moved_classes(value: Any) -> Any:
    """Return settings with every class named by the place where it is now."""
    if isinstance(value, dict):
        return {name: _with_moved_classes(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_with_moved_classes(entry) for entry in value]
    return _MOVED.get(value, value) if isinstance(value, str) else value


def _entries(value: dict[Any, Any], where: str) -> Iterator[tuple[str, str, Any, Any]]:
    """Yield (place, key above, own key, value) of everything below a mapping."""
    for name, entry in value.items():
        yield f"{where}.{name}", where.rpartition(".")[2], name, entry
        if type(entry) is dict:
            yield from _entries(entry, f"{where}.{name}")
        elif type(entry) in (list, tuple):
            yield from _entries(dict(enumerate(entry)), f"{where}.{name}")


def _check_entry(path: Path, where: str, owner: str, name: Any, entry: Any) -> None:
    if not isinstance(name, str | int) or type(entry) not in (dict, list, tuple, str, int, float, bool, type(None)):
        raise MmoodError(f"--ckpt_path {path} has a {type(entry).__name__} at {where:.80}; settings are plain data.")
    if name in _FUNCTIONS and isinstance(entry, str):
        entry, name = entry.partition("(")[0], "class_path"
    if name != "class_path":
        return
    trusted = [*filter(None, (word.strip() for word in os.environ.get(TRUST, "").split(",")))]
    named = isinstance(entry, str) and _CLASS_PATH.fullmatch(entry)
    package = str(entry).partition(".")[0]
    if not named or ("." in entry and not entry.startswith(tuple(f"{name}." for name in (*_PACKAGES, *trusted)))):
        advice = f"; if you trust the package '{package}', set {TRUST}={','.join([*trusted, package])}" if named else ""
        raise MmoodError(
            f"--ckpt_path {path} names {entry!r:.80} at {where:.80}, which is not a class of mmood or torch.optim. A "
            f"checkpoint must not choose which code runs{advice}."
        )
    if "." in entry and importlib.util.find_spec(package) is None:
        raise MmoodError(
            f"--ckpt_path {path} needs the package '{package}' for {entry} at {where:.80}; it must be installed, or "
            "be in the folder where mmood is started."
        )


def _drop_commands(data: dict[str, Any], path: str, arguments: list[str]) -> None:
    """Take the consent to run commands out of a checkpoint's settings: the user gives it again, on the command line."""
    loader = data.get("loader")
    if isinstance(loader, dict):
        loader.pop("pipes", None)
    if str(data.get("root")).startswith("pipe:"):
        command = data.pop("root")
        if not any(argument.partition("=")[0] in ("--data.root", "--data") for argument in arguments):
            raise MmoodError(
                f"--ckpt_path {path} would read images with the command '{command:.200}', but a checkpoint must not "
                "choose which commands run; give the location of the sets with --data.root."
            )


def _named(arguments: list[str]) -> str | None:
    found = None
    for position, argument in enumerate(arguments):
        flag, joined, value = argument.partition("=")
        if flag == "--ckpt_path":
            found = value if joined else next(iter(arguments[position + 1 :]), None)
    return found
