"""Objects that know what they were built with: the arguments of their constructor, all of them, as plain data."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Mapping, Set
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import partial
from numbers import Integral, Real
from pathlib import PurePath
from typing import Any, Self, final

from mmood.errors import MmoodError


class Recorded:
    """A base whose objects keep the arguments of their constructor, so that no setting can be left out of a record.

    A subclass names each argument (no `*args`, no `**kwargs`), and each value can be written as plain data: None, truth
    values, numbers, text, paths, enums, classes and functions, and lists, mappings, dataclasses and recorded objects of
    such. Anything else is refused, at the definition of the class or when an object is built.
    """

    _arguments: dict[str, object]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        unnamed = [name for name, parameter in _parameters(cls).items() if parameter.kind in _UNNAMED]
        if unnamed and "__init__" in vars(cls):
            raise MmoodError(
                f"The constructor of {cls.__name__} takes '{unnamed[0]}' in place of named arguments; settings are "
                "recorded from the arguments, so name each of them."
            )

    def __new__(cls, *positional: Any, **named: Any) -> Self:
        """Return the object that `__init__` will see, which already knows its arguments."""
        made = super().__new__(cls)
        signature = inspect.Signature([one for one in _parameters(cls).values() if one.kind not in _UNNAMED])
        # Partial: a copy is made without arguments and gets those of its original afterwards.
        bound = signature.bind_partial(*positional, **named)
        bound.apply_defaults()
        given = {name: plain(value, f"{cls.__name__}.{name}") for name, value in bound.arguments.items()}
        object.__setattr__(made, "_arguments", given)
        return made

    @final
    def settings(self) -> dict[str, object]:
        """Return the arguments of the constructor, defaults included, as plain data."""
        return copy.deepcopy(self._arguments)

    def details(self) -> dict[str, object]:
        """Return, as plain data, what a reader must know besides to compute the same numbers: what was learned or read.

        Where a setting stands for something else (None for the paper's value), its name may be repeated here.
        """
        return {}

    @final
    def record(self) -> dict[str, object]:
        """Return settings and details in one."""
        return {**self.settings(), **self.details()}


def plain(value: object, where: str) -> object:
    """Return a setting as plain data, which JSON and YAML can hold.

    Args:
        value: of the setting.
        where: which setting it is; begins the sentence of an error.

    Raises:
        MmoodError: it is none of the kinds that `Recorded` names, or a number that is not finite.

    >>> plain((1, Enum("Colour", "RED").RED), "x"), plain(partial(dict, a=1), "x")
    ([1, 'RED'], {'class_path': 'builtins.dict', 'init_args': {'a': 1}})
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, str | PurePath):
        return str(value)
    if isinstance(value, Real):
        return _number(value, where)
    if isinstance(value, Mapping):
        return {_key(key, where): plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, f"{where}[{place}]") for place, item in enumerate(value)]
    if isinstance(value, Set):
        return sorted((plain(item, where) for item in value), key=repr)
    if isinstance(value, Recorded):
        return _built(type(value), value.settings())
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name), f"{where}.{field.name}") for field in fields(value)}
    return _callable(value, where)


_UNNAMED = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def _parameters(cls: type) -> dict[str, inspect.Parameter]:
    parameters = dict(inspect.signature(cls.__init__).parameters)  # type: ignore[misc]
    del parameters["self"]
    return parameters


def _number(value: Real, where: str) -> int | float:
    if isinstance(value, Integral):
        return int(value)
    if not math.isfinite(value):
        raise MmoodError(f"{where} is {value}; it must be a finite number.")
    return float(value)


def _key(key: object, where: str) -> str:
    if not isinstance(key, str | int):
        raise MmoodError(f"{where} has the key {key!r:.80}; keys must be strings.")
    return str(key)


def _callable(value: object, where: str) -> object:
    if isinstance(value, type):
        return _path(value)
    if isinstance(value, partial):
        # jsonargparse binds the class to build as the last argument of a function of its own.
        *_, cls = (value.func, *value.args)
        if isinstance(cls, type) and (value.func is cls or not isinstance(value.func, type)):
            return _built(cls, {name: plain(item, f"{where}.{name}") for name, item in value.keywords.items()})
    if inspect.isfunction(value) or inspect.isbuiltin(value):
        return f"{value.__module__}.{value.__qualname__}"
    raise MmoodError(
        f"{where} is a {type(value).__name__}, which cannot be written as plain data; settings may be numbers, "
        "strings, classes, functions, and lists, mappings and dataclasses of these."
    )


def _built(cls: type, arguments: dict[str, object]) -> dict[str, object]:
    return {"class_path": _path(cls), "init_args": arguments}


def _path(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"
