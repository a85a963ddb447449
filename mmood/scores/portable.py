"""A fitted score as plain data and tensors, and back: what a detector is shipped as.

A score is its class, the arguments of its constructor, and what `fit` left under names that end in `_`, by the types
that the class declares for them. Nothing is imported or executed on the way back: the class must be known already.
"""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor

from mmood.errors import MmoodError, unknown
from mmood.scores.base import AbstractScore

Plain = str | int | float | bool | None | list[str]


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
    settings: Mapping[str, Plain]
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
        elif isinstance(value, tuple) and all(isinstance(entry, str) for entry in value):
            values[name] = list(value)
        elif isinstance(value, str | int | float | bool):
            values[name] = value
        else:
            raise MmoodError(
                f"{type(score).__name__} cannot be shipped: its {name} is a {type(value).__name__}, which is neither "
                "a tensor nor plain data; for an approximate search set `search: exact`."
            )
    return PortableScore(type(score).__name__, _settings(score), values, tensors)


def unpacked(portable: PortableScore, where: str) -> AbstractScore:
    """Return the fitted score; `where` begins the sentence of an error.

    Raises:
        MmoodError: there is no such class, or settings, names or types are not those of it.
    """
    known = {found.__name__: found for found in _subclasses(AbstractScore)}  # type: ignore[type-abstract]
    if portable.kind not in known:
        error = unknown("score", portable.kind, known)
        raise MmoodError(f"{where}: {error} A score of your own must be imported before the detector is loaded.")
    try:
        score = known[portable.kind](**portable.settings)
        for name, kinds in _declared(type(score)).items():
            setattr(score, name, _value(name, kinds, portable))
    except (TypeError, KeyError) as error:
        raise MmoodError(
            f"{where} does not fit the score {portable.kind} of this version of mmood: {error}."
        ) from error
    return score


def _settings(score: AbstractScore) -> dict[str, Plain]:
    """Return the constructor's arguments that the score keeps under their own names; others play no part in scoring."""
    kept = vars(score)
    names = [name for name in inspect.signature(type(score)).parameters if name in kept]
    return {name: kept[name] for name in names if isinstance(kept[name], str | int | float | bool | None)}


def _learned(score: AbstractScore) -> Iterator[tuple[str, object]]:
    for name in _declared(type(score)):
        value = getattr(score, name)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            yield f"{name}.", type(value).__name__
            yield from ((f"{name}.{field.name}", getattr(value, field.name)) for field in dataclasses.fields(value))
        elif value is not None:
            yield name, value


def _declared(kind: type[AbstractScore]) -> dict[str, tuple[Any, ...]]:
    """Return the declared types of each learned attribute."""
    hints = typing.get_type_hints(kind)
    return {
        name: typing.get_args(hint) or (hint,) for name, hint in hints.items() if name.endswith("_") and name[0] != "_"
    }


def _value(name: str, kinds: tuple[Any, ...], portable: PortableScore) -> object:
    """Return what an attribute was, built from its declared types."""
    if f"{name}." not in portable.values:
        return _plain(name, portable) if name in {*portable.values, *portable.tensors} else None
    dataclass_of: dict[str, Any] = {kind.__name__: kind for kind in kinds if isinstance(kind, type)}
    kind = dataclass_of[cast(str, portable.values[f"{name}."])]
    return kind(**{field.name: _plain(f"{name}.{field.name}", portable) for field in dataclasses.fields(kind)})


def _plain(name: str, portable: PortableScore) -> object:
    if name in portable.tensors:
        return portable.tensors[name]
    value = portable.values[name]
    return tuple(value) if isinstance(value, list) else value


def _subclasses(kind: type[AbstractScore]) -> Iterator[type[AbstractScore]]:
    for found in kind.__subclasses__():
        yield found
        yield from _subclasses(found)
