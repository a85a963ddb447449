"""Misspelt flags of a stage, and values that their types exclude, found before torch and Lightning are imported.

The parser itself would find them too, five seconds of importing later. What is not certain here is left to it: settings
of scores, of optimisers and of classes that are not mmood's own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from mmood.configuration.flag_checks import flags
from mmood.configuration.model_class import named_class
from mmood.configuration.signatures import Plain, Settings, arguments_of, exported, settings_of
from mmood.dense import MODULES as DENSE
from mmood.errors import MmoodError, nearest

_OF_THE_PARSER = ("config", "c", "print_config", "help", "h", "model", "data", "trainer")
# The objects that a stage of Lightning's Trainer takes: they are no settings.
_OBJECTS = ("model", "train_dataloaders", "val_dataloaders", "dataloaders", "datamodule")
# What may stand in any place of a name: how jsonargparse itself writes the settings of a class.
_TRANSPARENT = ("class_path", "init_args", "dict_kwargs", "help")

# A value that YAML reads as a text if it is none of those below; all others are left to the parser.
_WORD = re.compile(r"[A-Za-z][\w-]*")
_TRUTH = ("true", "false", "yes", "no", "on", "off", "null", "none", "y", "n")
_NUMBERS = ("inf", "infinity", "nan")
_KIND = {"int": "a whole number", "float": "a number", "bool": "true or false"}


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
        parts = _parts(argument[2:].partition("=")[0])
        if argument.startswith("--") and not _is_known(parts, known):
            raise MmoodError(_sentence(parts, known, model))


def check_words(stage: str, arguments: Sequence[str]) -> None:
    """Refuse a word as the value of a setting whose type certainly excludes it.

    Args:
        stage: `fit`, `validate`, `test` or `predict`.
        arguments: what stands behind it; every `--config` is the path of a file.

    Raises:
        MmoodError: the setting takes other words, or numbers; the message names the nearest one.
    """
    known = _known(stage, _model_class(arguments))
    for name, value in flags(arguments):
        taken = _taken(_parts(name), known)
        if taken is not None and _WORD.fullmatch(value) and not _is_taken(value, taken):
            raise MmoodError(not_taken(name, value, taken))


def not_taken(setting: str, value: str, taken: Plain) -> str:
    """Return the sentence for a value that a setting does not take.

    >>> not_taken("data.exif", "aply", Plain(("apply", "ignore")))
    "data.exif is 'aply'; did you mean 'apply'? It takes apply or ignore."
    >>> not_taken("data.batch_size", "many", Plain(kinds=("int",)))
    "data.batch_size is 'many'; it takes a whole number."
    """
    near = nearest(value, taken.words)
    *most, last = (*taken.words, *(_KIND[kind] for kind in taken.kinds))
    listed = f"{', '.join(most)} or {last}" if most else last
    hint = f"did you mean '{near}'? It" if near else "it"
    return f"{setting} is '{value}'; {hint} takes {listed}."


def no_such_setting(name: str, known: Sequence[str]) -> str:
    """Return the sentence for the name of no setting.

    >>> no_such_setting("data.rot", ["data.root", "data.id"])
    "There is no setting 'data.rot'; did you mean 'data.root'?"
    """
    near = nearest(name, known, cutoff=0.5)
    return f"There is no setting '{name}'" + (f"; did you mean '{near}'?" if near else ".")


def _parts(name: str) -> list[str]:
    return [part for part in name.removesuffix("+").split(".") if part not in _TRANSPARENT]


def _is_known(parts: list[str], known: Settings | Plain | None) -> bool:
    """Return whether a name may be that of a setting."""
    if not parts or not isinstance(known, dict):
        return True
    return parts[0] in known and _is_known(parts[1:], known[parts[0]])


def _taken(parts: list[str], known: Settings | Plain | None) -> Plain | None:
    """Return what a setting takes, None if that is not certain."""
    if not parts:
        return known if isinstance(known, Plain) else None
    return _taken(parts[1:], known.get(parts[0])) if isinstance(known, dict) else None


def _is_taken(value: str, taken: Plain) -> bool:
    number = value.lower() in _NUMBERS and not set(taken.kinds).isdisjoint(("int", "float"))
    return number or value in taken.words or value.lower() in _TRUTH


def _sentence(parts: list[str], known: Settings, model: str | None) -> str:
    of_model = _as_names(known["model"])
    if parts[0] != "model" or parts[1] in of_model:
        return no_such_setting(".".join(parts), list(_flat(known)))
    near = nearest(parts[1], of_model, cutoff=0.5)
    hint = f"; did you mean '{near}'?" if near else "."
    return f"model: {model} has no setting '{parts[1]}'{hint} It has: {', '.join(of_model)}."


def _flat(settings: Settings, above: str = "") -> Iterator[str]:
    for name, below in settings.items():
        yield above + name
        yield from _flat(_as_names(below), f"{above}{name}.")


def _as_names(settings: Settings | Plain | None) -> Settings:
    return settings if isinstance(settings, dict) else {}


def _known(stage: str, model: str | None) -> Settings:
    """Return all settings of a stage; None for those of a model that is not mmood's own."""
    places = {**exported("mmood.modules"), **DENSE}
    top: Settings = dict.fromkeys((*_OF_THE_PARSER, "name", "run_dir", "overwrite", "strict", "seed_everything"))
    top |= dict.fromkeys(set(arguments_of("lightning.pytorch.trainer.trainer", "Trainer", stage)) - set(_OBJECTS))
    return top | {
        **_of_family(model),
        "maps": settings_of("mmood.evaluation.maps", "LocalMaps"),
        "tuned": settings_of("mmood.evaluation.tuned", "TunedSettings"),
        "trainer": settings_of("lightning.pytorch.trainer.trainer", "Trainer"),
        "model": settings_of(places[model], model) if model is not None and model in places else None,
    }


def _of_family(model: str | None) -> Settings:
    """Return the settings of data and evaluation: of the family of the model, or of both where that is not certain."""
    images: Settings = {
        "data": settings_of("mmood.data.datamodule", "OoDDataModule"),
        "evaluation": settings_of("mmood.evaluation.callback", "OoDCallback"),
    }
    if model in exported("mmood.modules"):
        return images
    dense: Settings = {
        "data": settings_of("mmood.dense.data", "DenseDataModule"),
        "evaluation": settings_of("mmood.dense.callback", "DenseCallback"),
    }
    if model in DENSE:
        return dense
    return {name: _either(_as_names(images[name]), _as_names(dense[name])) for name in images}


def _either(first: Settings, second: Settings) -> Settings:
    """Return the settings of both; of one that differs, anything may stand below."""
    shared = {name: below if second[name] == below else None for name, below in first.items() if name in second}
    return {**first, **second, **shared}


def _model_class(arguments: Sequence[str]) -> str | None:
    """Return the name of the model's class if it is certain: a checkpoint may name another, and is not read here."""
    if any(argument.partition("=")[0] == "--ckpt_path" for argument in arguments):
        return None
    name = named_class(arguments)
    return None if name is None else name.rpartition(".")[2] if name.startswith("mmood.") else name
