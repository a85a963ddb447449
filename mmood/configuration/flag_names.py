"""Misspelt flags of a stage, found before torch and Lightning are imported.

The parser itself would find them too, five seconds of importing later. What is not certain here is left to it: settings
of scores, of optimisers and of classes that are not mmood's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mmood.configuration.model_class import named_class
from mmood.configuration.signatures import Settings, arguments_of, exported, settings_of
from mmood.dense import MODULES as DENSE
from mmood.errors import MmoodError, nearest

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
    return {name: {**(images[name] or {}), **(dense[name] or {})} for name in images}


def _model_class(arguments: Sequence[str]) -> str | None:
    """Return the name of the model's class if it is certain: a checkpoint may name another, and is not read here."""
    if any(argument.partition("=")[0] == "--ckpt_path" for argument in arguments):
        return None
    name = named_class(arguments)
    return None if name is None else name.rpartition(".")[2] if name.startswith("mmood.") else name
