"""Which class of model the command line names: read from flags and configs, before anything is imported or built."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from mmood.files import is_file, parse_yaml, read_text


def named_class(arguments: Sequence[str]) -> str | None:
    """Return the class of the model as the last flag or config that names one writes it; None if none does.

    Args:
        arguments: of a stage; every `--config` is the path of a file, or settings in braces.
    """
    found = None
    for argument, following in pairwise([*arguments, ""]):
        flag, joined, value = argument.partition("=")
        value = value if joined else following
        if flag in ("--model", "--model.class_path"):
            found = _of_model(value, Path())
        elif flag in ("--config", "-c"):
            found = _of_config(value) or found
    return found


def _of_config(config: str) -> str | None:
    path = Path(config)
    text = config if config.startswith("{") else read_text(path, config)
    document = parse_yaml(text, "--config" if text is config else config)
    return _of_model(document.get("model"), path.parent) if isinstance(document, dict) else None


def _of_model(model: object, folder: Path) -> str | None:
    """Return the class in the settings of a model, or in the file that holds them."""
    if isinstance(model, str) and is_file(folder / model):
        model = parse_yaml(read_text(folder / model, model), model)
    named = model.get("class_path") if isinstance(model, dict) else model
    return named if isinstance(named, str) else None
