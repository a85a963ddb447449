"""Where the samples of shards say their class: as WebDataset shards are found, in one of several ways."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from mmood.errors import MmoodError
from mmood.files import parse_json

LONGEST = 200
"""Characters of the name of a class, at most."""

_NUMBER = re.compile(r"-?[0-9]+")
_MEMBERS = ("cls", "json", "txt")


@dataclass(frozen=True)
class LabelSource:
    """Which member of a sample holds its label, and how.

    Attributes:
        member: `cls`, `json` or `txt`.
        key: of the JSON object that holds the label.
        texts: what the samples call the classes, in the order of the labels; none where they have numbers.
    """

    member: str = "cls"
    key: str = ""
    texts: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.member}:{self.key}" if self.key else self.member

    def label(self, fields: Mapping[str, bytes]) -> bytes | None:
        """Return the label of a sample as the content of a `cls` member; None without one.

        What is no class of the set is returned as it is, and then refused by who reads the number.
        """
        return fields.get("cls") if self == NUMBERS else self.number(self.text(fields))

    def number(self, text: str | None) -> bytes | None:
        """Return the label that a sample with this text has; see `label`."""
        if text is None:
            return None
        label = self._numbers.get(text)
        return text.encode() if label is None else str(label).encode()

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {text: label for label, text in enumerate(self.texts)}

    def text(self, fields: Mapping[str, bytes]) -> str | None:
        """Return what the sample says of its class, None if it says nothing."""
        content = fields.get(self.member)
        if content is None:
            return None
        if self.member != "json":
            return content[: 4 * LONGEST].decode("utf-8", errors="replace").strip()[:LONGEST]
        try:
            value = parse_json(content, "It")
        except MmoodError:
            return None
        found = value.get(self.key) if isinstance(value, dict) else None
        return str(found).strip()[:LONGEST] if isinstance(found, str | int) and not isinstance(found, bool) else None


NUMBERS = LabelSource()
"""Numbers in `cls`, as `mmood pack` writes them."""

GUESSED = (
    NUMBERS,
    *(LabelSource("json", key) for key in ("cls", "label", "class", "class_name", "category", "synset")),
)
"""Where labels are looked for, in this order."""


def label_source(setting: str) -> LabelSource:
    """Return the source that a user names: `cls`, `txt`, or `json:KEY`.

    >>> label_source("json:category")
    LabelSource(member='json', key='category', texts=())
    """
    member, colon, key = setting.partition(":")
    if member not in _MEMBERS or bool(key) != (member == "json") or bool(colon) != bool(key):
        raise MmoodError(f"`--labels` is '{setting}'; it must be cls, txt or json:KEY, which hold the labels.")
    return LabelSource(member, key)


def texts_of(labels: Iterable[str]) -> tuple[str, ...]:
    """Return the names among labels, sorted; none where one is a number, since then all should be.

    >>> texts_of(["dog", "cat", "dog"]), texts_of(["3", "1"]), texts_of(["3", "cat"])
    (('cat', 'dog'), (), ())
    """
    found = set(labels)
    return () if any(map(_NUMBER.fullmatch, found)) else tuple(sorted(found))


def says_labels(source: LabelSource, texts: Sequence[str | None]) -> bool:
    """Return whether a source gives labels in a set, by what each sample says there.

    A negative number in `json`, such as -1 of an OoD image, is none.
    """
    found = [text for text in texts if text is not None]
    return bool(found) and (source == NUMBERS or not any(re.fullmatch("-[0-9]+", text) for text in found))


def parse_labels(document: Any, where: str) -> LabelSource:
    """Return the source that an index names; MmoodError if it is none."""
    fields = document if isinstance(document, dict) else {}
    member, key, texts = fields.get("member"), fields.get("key"), fields.get("texts")
    plain = isinstance(texts, list) and all(isinstance(text, str) for text in texts)
    if not plain or member not in _MEMBERS or not isinstance(key, str) or bool(key) != (member == "json"):
        raise MmoodError(
            f"In the index {where}, `labels` must have a member ({', '.join(_MEMBERS)}), a key for json, and a list of "
            "texts."
        )
    return LabelSource(str(member), key, tuple(texts or ()))
