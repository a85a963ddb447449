"""The prompts of nouns and adjectives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["noun", "adjective"]
KINDS: tuple[Kind, ...] = ("noun", "adjective")


@dataclass(frozen=True)
class Templates:
    """Prompts in which `{}` stands for the word; several per kind are averaged.

    Attributes:
        id: prompts of the ID class names.
        noun: prompts of nouns.
        adjective: prompts of adjectives.
        normalise_first: average the unit-norm embeddings of a word's prompts; off, average them as they are (CSP).
    """

    id: tuple[str, ...] = ("the nice {}",)
    noun: tuple[str, ...] = ("the nice {}",)
    adjective: tuple[str, ...] = ("This is a {} photo",)
    normalise_first: bool = True

    def of(self, kind: Kind) -> tuple[str, ...]:
        """Return the prompts of a kind of words."""
        return self.noun if kind == "noun" else self.adjective
