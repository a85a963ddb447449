"""JSON objects of untrusted files, read field by field; an error names file, field, value and what is right."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from mmood.errors import MmoodError


class Fields:
    """A JSON object whose fields are read by name and type; every error says where it is.

    Args:
        raw: what was parsed.
        where: begins the sentence of an error.

    Raises:
        MmoodError: it is no object.
    """

    def __init__(self, raw: object, where: str) -> None:
        if not isinstance(raw, dict):
            raise MmoodError(f"{where} is {_short(raw)}; it must be an object with named fields.")
        self.raw: Mapping[str, Any] = raw
        self.where = where

    def value(self, name: str, right: Callable[[Any], bool], kind: str) -> Any:
        """Return a field that `right` accepts; `kind` says in an error what it must be."""
        if name not in self.raw:
            raise MmoodError(f"{self.where} has no '{name}'; it must be {kind}.")
        value = self.raw[name]
        if not right(value):
            raise MmoodError(f"{self.where} has {name} = {_short(value)}; it must be {kind}.")
        return value

    def has(self, name: str) -> bool:
        """Return whether a field is there and not null."""
        return self.raw.get(name) is not None

    def text(self, name: str) -> str:
        """Return a text."""
        return str(self.value(name, lambda v: isinstance(v, str), "a text"))

    def text_or_null(self, name: str) -> str | None:
        """Return a text or None."""
        return None if self.raw.get(name, "") is None else self.text(name)

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a list of texts."""
        right = "a list of texts"
        return tuple(self.value(name, lambda v: isinstance(v, list) and all(isinstance(t, str) for t in v), right))

    def flag(self, name: str) -> bool:
        """Return true or false."""
        return bool(self.value(name, lambda v: isinstance(v, bool), "true or false"))

    def whole(self, name: str) -> int:
        """Return a whole number."""
        return int(self.value(name, lambda v: isinstance(v, int) and not isinstance(v, bool), "a whole number"))

    def count(self, name: str) -> int:
        """Return a whole number that is not negative."""
        right = "a whole number from 0 to 2^53"  # what JSON readers everywhere take
        return int(self.value(name, lambda v: type(v) is int and 0 <= v <= 2**53, right))

    def whole_or_null(self, name: str) -> int | None:
        """Return a whole number or None."""
        return None if self.raw.get(name, "") is None else self.whole(name)

    def number(self, name: str) -> float:
        """Return a finite number."""
        return float(self.value(name, _is_finite, "a finite number"))

    def numbers(self, name: str) -> tuple[float, ...]:
        """Return a list of finite numbers."""
        right = "a list of finite numbers"
        found = self.value(name, lambda v: isinstance(v, list) and all(_is_finite(n) for n in v), right)
        return tuple(float(number) for number in found)

    def share(self, name: str) -> float:
        """Return a number in [0, 1]."""
        right = "a number from 0 to 1"  # NaN is none
        return float(self.value(name, lambda v: type(v) in (int, float) and 0 <= v <= 1, right))

    def share_or_null(self, name: str) -> float | None:
        """Return a number in [0, 1] or None."""
        return None if self.raw.get(name, "") is None else self.share(name)

    def one_of(self, name: str, known: tuple[str, ...]) -> str:
        """Return one of some texts."""
        return str(self.value(name, lambda v: v in known, " or ".join(repr(word) for word in known)))

    def mapping(self, name: str) -> dict[str, object]:
        """Return an object as it is."""
        return dict(self.value(name, lambda v: isinstance(v, dict), "an object with named fields"))

    def child(self, name: str) -> Fields:
        """Return an object, to be read field by field."""
        return Fields(self.mapping(name), f"{self.where}: {name}")

    def children(self, name: str) -> list[Fields]:
        """Return a list of objects."""
        items = self.value(name, lambda v: isinstance(v, list), "a list")
        return [Fields(item, f"{self.where}: {name}[{i}]") for i, item in enumerate(items)]


def _is_finite(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= 1e308 and math.isfinite(value)


def _short(value: object) -> str:
    try:
        return f"{value!r:.40}"
    except ValueError:  # Python refuses to print a whole number of thousands of digits
        return "a number too long to print"
