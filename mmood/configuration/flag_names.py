"""Misspelt flags of a stage, found before torch and Lightning are imported.

The parser itself would find them too, five seconds of importing later. What is not certain here is left to it: settings
of scores, of optimisers and of classes that are not mmood's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from mmood.configuration.signatures import Settings, arguments_of, exported, settings_of
from mmood.errors import MmoodError, nearest
from mmood.files import parse_yaml, read_text

_OF_THE_PARSER = ("config", "c", "print_config", "help", "h", "model", "data", "trainer")
# The objects that a stage of Lightning's Trainer takes: they are no settings.
_OBJECTS = ("model", "train_dataloaders", "val_dataloaders", "dataloaders", "datamodule")
# What may stand in any place of a name: how jsonargparse itself writes the settings of a class.
_TRANSPARENT = ("class_path", "init_args", "dict_kwargs", "help")


def check_names(stage: str, arguments: Sequence[str]) -> None:
    """Refuse a flag that is certainly the name of no setting.

    Args:
        stage: `fit`, `validate`, `test` or `predict`.
        arguments: what stands behind it; every `--config` is the path of a file.

    Raises:
        MmoodError: there is no such setting; the message names the nearest one.
    """
    model = _model_class(arguments)
    known = _known(stage, model)
    for argument in arguments:
        parts = argument[2:].partition("=")[0].removesuffix("+").split(".")
        parts = [part for part in parts if part not in _TRANSPARENT]
        if argument.startswith("--") and not _is_known(parts, known):
            raise MmoodError(_sentence(parts, known, model))


def no_such_setting(name: str, known: Sequence[str]) -> str:
    """Return the sentence for the name of no setting.

    >>> no_such_setting("data.rot", ["data.root", "data.id"])
    "There is no setting 'data.rot'; did you mean 'data.root'?"
    """
    near = nearest(name, known, cutoff=0.5)
    return f"There is no setting '{name}'" + (f"; did you mean '{near}'?" if near else ".")


def _is_known(parts: list[str], known: Settings | None) -> bool:
    """Return whether a name may be that of a setting."""
    if not parts or known is None:
        return True
    return parts[0] in known and _is_known(parts[1:], known[parts[0]])


def _sentence(parts: list[str], known: Settings, model: str | None) -> str:
    of_model = known["model"] or {}
    if parts[0] != "model" or parts[1] in of_model:
        return no_such_setting(".".join(parts), list(_flat(known)))
    near = nearest(parts[1], of_model, cutoff=0.5)
    hint = f"; did you mean '{near}'?" if near else "."
    return f"model: {model} has no setting '{parts[1]}'{hint} It has: {', '.join(of_model)}."


def _flat(settings: Settings, above: str = "") -> Iterator[str]:
    for name, below in settings.items():
        yield above + name
        yield from _flat(below or {}, f"{above}{name}.")


def _known(stage: str, model: str | None) -> Settings:
    """Return all settings of a stage; None for those of a model that is not mmood's own."""
    detectors = exported("mmood.modules")
    top: Settings = dict.fromkeys((*_OF_THE_PARSER, "name", "run_dir", "overwrite", "strict", "seed_everything"))
    top |= dict.fromkeys(set(arguments_of("lightning.pytorch.trainer.trainer", "Trainer", stage)) - set(_OBJECTS))
    return top | {
        "data": settings_of("mmood.data.datamodule", "OoDDataModule"),
        "evaluation": settings_of("mmood.evaluation.callback", "OoDCallback"),
        "maps": settings_of("mmood.evaluation.maps", "LocalMaps"),
        "tuned": settings_of("mmood.evaluation.tuned", "TunedSettings"),
        "trainer": settings_of("lightning.pytorch.trainer.trainer", "Trainer"),
        "model": settings_of(detectors[model], model) if model is not None and model in detectors else None,
    }


def _model_class(arguments: Sequence[str]) -> str | None:
    """Return the name of the model's class if it is certain: that of the last flag or config that names one."""
    found = None
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=True):
        flag, joined, value = argument.partition("=")
        value = value if joined else following
        if flag == "--ckpt_path":
            return None  # which names a class, and is not read here
        if flag in ("--model", "--model.class_path"):
            found = value
        elif flag in ("--config", "-c"):
            found = _of_config(value) or found
    return None if found is None else found.removeprefix("mmood.modules.").removeprefix("mmood.")


def _of_config(config: str) -> str | None:
    """Return the class that a config names for the model: a file, or the settings themselves in braces."""
    path = Path(config)
    document = parse_yaml(config, "--config") if config.startswith("{") else _content(path)
    model = document.get("model") if isinstance(document, dict) else None
    if isinstance(model, str) and (path.parent / model).is_file():
        model = _content(path.parent / model)
    named = model.get("class_path") if isinstance(model, dict) else model
    return named if isinstance(named, str) else None


def _content(path: Path) -> object:
    return parse_yaml(read_text(path, str(path)), str(path))
