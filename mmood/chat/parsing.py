"""Lists out of what language models really answer: JSON, JSON in prose, bullets, numbers, plain lines, refusals."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, final

MOST_ENTRIES = 2000
"""Entries of an answer that are read, at most."""
MOST_WORDS_OF_A_LINE = 6
"""Words of a line without a bullet that may be an entry; more are prose."""

# Brackets that are tried as the beginning of JSON: an answer that is nothing but brackets shall cost no time.
_MOST_STARTS = 64
_THOUGHTS = re.compile(r"<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)", re.DOTALL | re.IGNORECASE)
_FENCE = re.compile(r"^\s*```\w*\s*$", re.MULTILINE)
_BULLET = re.compile(r"\s*(?:[-*+>\u2022\u00b7\u2013\u2014]+|\(?\d{1,4}\s?[.):]|\(?[a-zA-Z][.)])\s+(?P<entry>\S.*)")
_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"')
_REFUSAL = re.compile(
    r"\b(?:i(?:['\u2019]| a)m (?:sorry|unable|not able)|i apologi[sz]e|i can(?:no|['\u2019])t|i won['\u2019]t|as an ai|"
    r"cannot (?:help|assist|comply))",
    re.IGNORECASE,
)
_NAMING = ("name", "class", "label", "item", "title", "object")


@final
@dataclass(frozen=True)
class ParsedList:
    """The entries of a list in an answer.

    Attributes:
        entries: as the model wrote them, without bullets.
        refused: there are none, and the model says that it will not answer.
    """

    entries: tuple[str, ...]
    refused: bool = False


def parse_list(text: str, cut: bool = False) -> ParsedList:
    r"""Return the entries of the list in an answer.

    Args:
        text: the answer.
        cut: it ended at the limit of its tokens, so its last line or string may lack its end and is left out.

    >>> parse_list("Sure! Here are two:\n1. sea lion\n2. walrus").entries
    ('sea lion', 'walrus')
    >>> parse_list('Here you are: ["fox", "wolf"]. Enjoy!').entries
    ('fox', 'wolf')
    >>> parse_list("I'm sorry, but I cannot help with that.")
    ParsedList(entries=(), refused=True)
    """
    bare = _FENCE.sub("", _THOUGHTS.sub("", text))
    entries = _from_json(bare) or _from_lines(bare, cut)
    return ParsedList(tuple(entries[:MOST_ENTRIES]), not entries and _REFUSAL.search(bare) is not None)


def parse_object(text: str) -> Mapping[str, Any]:
    """Return the first JSON object in an answer; an empty one if there is none.

    >>> parse_object('Sure: {"positive": ["a fish"]} Anything else?')
    {'positive': ['a fish']}
    """
    bare = _FENCE.sub("", _THOUGHTS.sub("", text))
    return next((value for value in _values(bare) if isinstance(value, dict)), {})


def strings_of(value: Any) -> list[str]:
    """Return the texts in a JSON value: of a list, its texts and the names of its objects; of an object, lists or keys.

    >>> strings_of([{"name": "fox", "why": "red"}, "wolf"]), strings_of({"fox": "red", "wolf": "grey"})
    (['fox', 'wolf'], ['fox', 'wolf'])
    """
    if isinstance(value, str):
        return [value]
    if isinstance(value, list):
        return [text for entry in value for text in (_named(entry) if isinstance(entry, dict) else strings_of(entry))]
    if not isinstance(value, dict):
        return []
    lists = [entry for entry in value.values() if isinstance(entry, list)]
    return [text for entry in lists for text in strings_of(entry)] if lists else list(value)


def _named(entry: Mapping[str, Any]) -> list[str]:
    """Return what an object in a list is called."""
    texts = [entry[key] for key in _NAMING if isinstance(entry.get(key), str)]
    return texts[:1] or [text for text in entry.values() if isinstance(text, str)][:1]


def _from_json(text: str) -> list[str]:
    for value in _values(text):
        if found := strings_of(value):
            return found
    begun = text.find("[")
    # A list that has no end: its complete strings.
    return _STRING.findall(text[begun:]) if begun >= 0 and text.count('"') >= 2 and "\n-" not in text else []


def _values(text: str) -> Iterator[Any]:
    """Yield the JSON lists and objects in a text."""
    decoder = json.JSONDecoder()
    at = 0
    for _ in range(_MOST_STARTS):
        if (begun := _next(text, at)) < 0:
            return
        try:
            value, at = decoder.raw_decode(text, begun)
            yield value
        except (ValueError, RecursionError):
            at = begun + 1


def _next(text: str, at: int) -> int:
    found = [place for place in (text.find("[", at), text.find("{", at)) if place >= 0]
    return min(found, default=-1)


def _from_lines(text: str, cut: bool) -> list[str]:
    lines = [line.strip() for line in text.splitlines() if any(map(str.isalpha, line))]
    if cut:
        lines = lines[:-1]
    bullets = [found["entry"] for line in lines if (found := _BULLET.fullmatch(line))]
    if bullets or _REFUSAL.search(text):
        return bullets
    if len(lines) == 1 and "," in lines[0]:
        lines = [entry.strip() for entry in lines[0].rpartition(":")[2].split(",") if entry.strip()]
    return [line for line in lines if len(line.split()) <= MOST_WORDS_OF_A_LINE and not line.endswith((":", "!", "?"))]
