"""ImageNet-1k: its synsets in the order of the labels, and their names."""

from __future__ import annotations

import functools
import importlib.util
import re
from collections.abc import Mapping
from pathlib import Path

_SYNSET = re.compile(r"n[0-9]{8}")


def is_synset(name: str) -> bool:
    """Return whether a name has the form of a WordNet noun in ImageNet, such as n01440764."""
    return _SYNSET.fullmatch(name) is not None


@functools.cache
def synsets() -> tuple[str, ...]:
    """Return the 1,000 synsets in the order of the labels."""
    package = importlib.util.find_spec("timm")
    listed = Path((package and package.origin) or "").parent / "data" / "_info" / "imagenet_synsets.txt"
    if listed.is_file():  # timm's own reader of this file imports torch
        return tuple(listed.read_text().split())
    from timm.data import ImageNetInfo

    return tuple(ImageNetInfo().label_names())


@functools.cache
def openai_names() -> tuple[str, ...]:
    """Return the names that OpenAI curated, in the order of the labels."""
    from open_clip import IMAGENET_CLASSNAMES

    return tuple(IMAGENET_CLASSNAMES)


@functools.cache
def words() -> tuple[tuple[str, ...], ...]:
    """Return the words of each synset in WordNet's order, such as ("tench", "Tinca tinca"), by label."""
    from timm.data import ImageNetInfo

    return tuple(tuple(text.split(", ")) for text in ImageNetInfo().label_descriptions(as_dict=False))


def synsets_of(name: str) -> frozenset[str]:
    """Return the synsets that a name in lower case may mean: itself if it is one, those that are called so, or none."""
    return frozenset({name}) if is_synset(name) else _synsets_by_name().get(name, frozenset())


@functools.cache
def _synsets_by_name() -> Mapping[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for synset, spoken, curated in zip(synsets(), words(), openai_names(), strict=True):
        for name in (*spoken, curated):
            found.setdefault(name.casefold(), set()).add(synset)
    return {name: frozenset(meant) for name, meant in found.items()}
