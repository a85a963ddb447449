"""Which of the proposed names are taken, and why the others are not."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import final

from mmood.classes import imagenet
from mmood.classes.matching import folded
from mmood.words.cleaning import clean_name
from mmood.words.names_file import Group, ProposedName

_WORD = re.compile(r"[^\W_]+")

NOT_A_NAME = "not a name"
ID_CLASS = "an ID class"
SHARED_WORD = "shares a word with an ID class"
REPEATED = "proposed before"


@final
class Selection:
    """Takes names one after another, each once and none of an ID class.

    A name is an ID class if it differs from the name of one only in case, blanks and hyphens, or if ImageNet calls one
    of its classes by both.

    Args:
        class_names: the ID classes.
    """

    def __init__(self, class_names: Sequence[str]) -> None:
        self.taken: dict[str, ProposedName] = {}
        self._dropped: dict[str, dict[str, None]] = {}
        self._id = {_letters(name) for name in class_names}
        self._synsets = {synset for name in class_names for synset in imagenet.synsets_of(folded(name))}
        self._words = {word for name in class_names for word in _words(name)}

    def take(self, entry: str, group: Group, share_words: bool, source: str = "", answer: str = "") -> bool:
        """Return whether an entry of a list is a name that is taken now.

        Args:
            entry: as it was proposed.
            group: what it was proposed as.
            share_words: take it even if it has a word in common with an ID class, as "grey wolf" with "grey whale".
            source: see `ProposedName`.
            answer: see `ProposedName`.
        """
        name = clean_name(entry)
        if name is None:
            return self._drop(NOT_A_NAME, "".join(c for c in entry if c.isprintable())[:80])
        if _letters(name) in self._id or not self._synsets.isdisjoint(imagenet.synsets_of(name)):
            return self._drop(ID_CLASS, name)
        if not share_words and not self._words.isdisjoint(_words(name)):
            return self._drop(SHARED_WORD, name)
        if _letters(name) in self.taken:
            return self._drop(REPEATED, name)
        self.taken[_letters(name)] = ProposedName(name, group, source, answer)
        return True

    @property
    def names(self) -> tuple[ProposedName, ...]:
        """The names that were taken, in order."""
        return tuple(self.taken.values())

    @property
    def dropped(self) -> dict[str, tuple[str, ...]]:
        """Reason -> the different entries that were not taken."""
        return {reason: tuple(entries) for reason, entries in self._dropped.items()}

    def _drop(self, reason: str, entry: str) -> bool:
        self._dropped.setdefault(reason, {})[entry] = None
        return False


def _letters(name: str) -> str:
    """Return what two spellings of a name have in common: "gas mask", "gas-mask" and "Gasmask" are one."""
    return "".join(_words(name))


def _words(name: str) -> list[str]:
    return _WORD.findall(folded(name))
