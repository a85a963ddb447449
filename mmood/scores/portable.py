"""A fitted score as plain data and tensors, and back: what a detector is shipped as.

A score is its class, the arguments of its constructor, and what `fit` left: under names that end in `_`, by the types
that the class declares for them; of a stream score, its Fitted. The memory of a stream score is not part of it, and the
text tower is that of the encoder it is shipped with. Nothing is imported or executed on the way back: the class must be
known already.
"""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor

from mmood.encoders.base import AbstractEncoder
from mmood.errors import MmoodError, unknown
from mmood.scores.base import AbstractScore
from mmood.scores.test_time.base import AbstractStreamScore, fitted_type
from mmood.scores.text_tower import TextTower

Plain = str | int | float | bool | None | list[str]
_TOWER = "text tower"


@dataclass(frozen=True)
class PortableScore:
    """A fitted score.

    Attributes:
        kind: name of the class.
        settings: arguments of the constructor.
        values: what is learned besides tensors, by `attribute` or `attribute.field`; `attribute.` names a dataclass.
        tensors: what is learned, by the same names.
    """

    kind: str
    settings: Mapping[str, object]
    values: Mapping[str, Plain]
    tensors: Mapping[str, Tensor]


def packed(score: AbstractScore) -> PortableScore:
    """Return a fitted score as plain data and tensors.

    Raises:
        MmoodError: it has learned something that is neither, such as the index of an approximate search.
    """
    values: dict[str, Plain] = {}
    tensors: dict[str, Tensor] = {}
    for name, value in _learned(score):
        if isinstance(value, Tensor):
            tensors[name] = value
        elif isinstance(value, TextTower):
            values[name] = _TOWER
        elif isinstance(value, tuple) and all(isinstance(entry, str) for entry in value):
            values[name] = list(value)
        elif isinstance(value, str | int | float | bool | None):
            values[name] = value
        else:
            raise MmoodError(
                f"{type(score).__name__} cannot be shipped: its {name} is a {type(value).__name__}, which is neither "
                "a tensor nor plain data; for an approximate search set `search: exact`."
            )
    return PortableScore(type(score).__name__, _settings(score), values, tensors)


def unpacked(portable: PortableScore, encoder: AbstractEncoder, where: str) -> AbstractScore:
    """Return the fitted score, a stream score with the memory of a stream that has not begun.

    Args:
        portable: what `packed` returned.
        encoder: that the score is shipped with.
        where: begins the sentence of an error.

    Raises:
        MmoodError: there is no such class, or settings, names or types are not those of it.
    """
    known: dict[str, type[AbstractScore]] = {}
    for found in _subclasses(AbstractScore):  # type: ignore[type-abstract]
        known.setdefault(found.__name__, found)  # torch.export leaves subclasses of the same name behind
    if portable.kind not in known:
        error = unknown("score", portable.kind, known)
        raise MmoodError(f"{where}: {error} A score of your own must be imported before the detector is loaded.")
    kind = known[portable.kind]
    try:
        hints = typing.get_type_hints(kind.__init__)
        score = kind(**{name: _rebuilt(value, hints[name]) for name, value in portable.settings.items()})
        for name, hint in _declared(kind).items():
            if name in portable.tensors or name in portable.values or f"{name}." in portable.values:
                setattr(score, name, _value(name, hint, portable, TextTower(encoder)))
        if isinstance(score, AbstractStreamScore):
            score.reset()
    except (TypeError, KeyError, AttributeError, RuntimeError) as error:
        raise MmoodError(
            f"{where} does not fit the score {portable.kind} of this version of mmood: {error}."
        ) from error
    return score


def _settings(score: AbstractScore) -> Mapping[str, object]:
    """Return the constructor's arguments that play a part in scoring."""
    if isinstance(score, AbstractStreamScore):
        return score.settings()
    kept = vars(score)
    names = [name for name in inspect.signature(type(score)).parameters if name in kept]
    return {name: kept[name] for name in names if isinstance(kept[name], str | int | float | bool | None)}


def _rebuilt(value: object, hint: Any) -> object:
    """Return a setting that was plain data: lists as tuples, mappings as the dataclass that the type names."""
    if isinstance(value, list):
        return tuple(_rebuilt(entry, hint) for entry in value)
    if not isinstance(value, dict):
        return value
    (kind,) = [kind for kind in (hint, *typing.get_args(hint)) if dataclasses.is_dataclass(kind)]
    hints = typing.get_type_hints(kind)
    return cast(Any, kind)(**{name: _rebuilt(inner, hints[name]) for name, inner in value.items()})


def _learned(score: AbstractScore) -> Iterator[tuple[str, object]]:
    """Yield what a score has learned, dataclasses field by field."""
    for name in _declared(type(score)):
        if (value := getattr(score, name)) is not None:
            yield from _leaves(name, value)


def _leaves(name: str, value: object) -> Iterator[tuple[str, object]]:
    if dataclasses.is_dataclass(value) and not isinstance(value, type | TextTower):
        yield f"{name}.", type(value).__name__
        for field in dataclasses.fields(value):
            yield from _leaves(f"{name}.{field.name}", getattr(value, field.name))
    else:
        yield name, value


def _declared(kind: type[AbstractScore]) -> dict[str, Any]:
    """Return the declared type of each learned attribute."""
    if issubclass(kind, AbstractStreamScore):
        return {"fitted_": fitted_type(kind)}
    hints = typing.get_type_hints(kind)
    return {name: hint for name, hint in hints.items() if name.endswith("_") and name[0] != "_"}


def _value(name: str, hint: Any, portable: PortableScore, tower: TextTower) -> object:
    """Return what an attribute was, built from its declared type."""
    if f"{name}." in portable.values:
        named: dict[str, Any] = {
            kind.__name__: kind for kind in typing.get_args(hint) or (hint,) if isinstance(kind, type)
        }
        kind = named[cast(str, portable.values[f"{name}."])]
        hints = typing.get_type_hints(kind)
        fields = [field.name for field in dataclasses.fields(kind)]
        return kind(**{field: _value(f"{name}.{field}", hints[field], portable, tower) for field in fields})
    if name in portable.tensors:
        return portable.tensors[name]
    value = portable.values[name]
    if hint is TextTower:
        return tower
    return tuple(value) if isinstance(value, list) else value


def _subclasses(kind: type[AbstractScore]) -> Iterator[type[AbstractScore]]:
    for found in kind.__subclasses__():
        yield found
        yield from _subclasses(found)
