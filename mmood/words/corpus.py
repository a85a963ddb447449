"""Corpora: the words from which negative labels are mined."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mmood.errors import MmoodError, unknown
from mmood.files import read_text
from mmood.words.wordnet import LEXICOGRAPHER_FILES, WordNet, find_wordnet, read_wordnet


def _files(*without: str) -> tuple[str, ...]:
    kept = (name for name in LEXICOGRAPHER_FILES if name.startswith(("noun.", "adj.")) and name not in without)
    return tuple(sorted(kept, key=lambda name: (name.startswith("adj."), name)))


_LIVING_OR_EATEN = ("noun.animal", "noun.food")

PRESETS: dict[str, tuple[str, ...]] = {
    "neglabel": _files(*_LIVING_OR_EATEN),
    "csp": _files(*_LIVING_OR_EATEN, "noun.person", "noun.quantity", "noun.group", "adj.pert"),
    "full": _files(),
}
"""Preset -> its lexicographer files, nouns first, each part of speech sorted by name."""


@dataclass(frozen=True)
class CorpusSettings:
    """Which words to mine from.

    Attributes:
        preset: `neglabel` (24 noun files, without animal and food, and 3 adjective files), `csp` (those without
            noun.person, noun.quantity, noun.group and adj.pert) or `full` (26 noun and 3 adjective files).
        words: `first` takes the first word of each synset, as the lists that the papers publish do; `all` takes every
            synonym and is about 1.7 times as large.
        wordnet: folder of WordNet's dict files; None to look in the usual places.
        nouns: text files of nouns, one word a line; with `adjectives` they take the place of the preset.
        adjectives: text files of adjectives, one word a line.
    """

    preset: str = "neglabel"
    words: Literal["first", "all"] = "first"
    wordnet: str | None = None
    nouns: tuple[str, ...] = ()
    adjectives: tuple[str, ...] = ()


@dataclass(frozen=True)
class Corpus:
    """Clean words without repetition; the order is part of the corpus, ties in mining go by it.

    Attributes:
        name: preset, or "files".
        source: "WordNet 3.0", or the names of the text files.
        nouns: words of the noun files.
        adjectives: words of the adjective files that are not among the nouns.
    """

    name: str
    source: str
    nouns: tuple[str, ...]
    adjectives: tuple[str, ...]

    @property
    def content_hash(self) -> str:
        """The sha256 (hex) of all words in order, with their part of speech."""
        lines = [f"noun\t{word}\n" for word in self.nouns] + [f"adjective\t{word}\n" for word in self.adjectives]
        return hashlib.sha256("".join(lines).encode()).hexdigest()


def clean_word(text: str) -> str:
    """Return a word in the one spelling of a corpus: lower case, spaces for underscores, no square brackets.

    Lower case is the spelling of the published lists, and CLIP's tokenizer lower-cases anyway; the brackets are a
    leftover in them.

    >>> clean_word(" Golden_Gate  Bridge"), clean_word("[thermal")
    ('golden gate bridge', 'thermal')
    """
    return " ".join(text.replace("_", " ").replace("[", " ").replace("]", " ").lower().split())


def build_corpus(name: str, source: str, nouns: Iterable[str], adjectives: Iterable[str]) -> Corpus:
    """Return the corpus of the cleaned words; of a repeated word the first stays, nouns before adjectives.

    Raises:
        MmoodError: no word is left.

    >>> build_corpus("toy", "here", ["Sea", "orange", "sea"], ["orange", "blue"])
    Corpus(name='toy', source='here', nouns=('sea', 'orange'), adjectives=('blue',))
    """
    kept = dict.fromkeys(word for raw in nouns if (word := clean_word(raw)))
    others = dict.fromkeys(word for raw in adjectives if (word := clean_word(raw)) and word not in kept)
    if not kept and not others:
        raise MmoodError(f"The corpus '{name}' ({source}) has no words.")
    return Corpus(name, source, tuple(kept), tuple(others))


def load_corpus(settings: CorpusSettings | None = None) -> Corpus:
    """Return the corpus that the settings name; without settings the `neglabel` preset of the WordNet at hand.

    Raises:
        MmoodError: an unknown preset, no WordNet, a missing or unreadable text file, no word at all.
    """
    settings = settings or CorpusSettings()
    if settings.nouns or settings.adjectives:
        names = ", ".join(Path(path).name for path in (*settings.nouns, *settings.adjectives))
        return build_corpus("files", names, _read_files(settings.nouns), _read_files(settings.adjectives))
    if settings.preset not in PRESETS:
        raise unknown("corpus preset", settings.preset, PRESETS)
    wordnet = read_wordnet(settings.wordnet)
    take = slice(None) if settings.words == "all" else slice(1)
    files = PRESETS[settings.preset]
    nouns, adjectives = (_select(wordnet, files, prefix, take) for prefix in ("noun.", "adj."))
    name = settings.preset if settings.words == "first" else f"{settings.preset}, all words"
    return build_corpus(name, f"WordNet {wordnet.version}", nouns, adjectives)


def check_corpus(settings: CorpusSettings) -> str:
    """Return where the words of a corpus come from, without reading WordNet.

    Raises:
        MmoodError: an unknown preset, no WordNet, a missing or unreadable text file.
    """
    if settings.nouns or settings.adjectives:
        words = len(_read_files(settings.nouns)) + len(_read_files(settings.adjectives))
        return f"{words} words of {', '.join((*settings.nouns, *settings.adjectives))}"
    if settings.preset not in PRESETS:
        raise unknown("corpus preset", settings.preset, PRESETS)
    return f"the WordNet in {find_wordnet(settings.wordnet)}"


def _select(wordnet: WordNet, files: Sequence[str], prefix: str, take: slice) -> list[str]:
    chosen = (wordnet.synsets.get(file, ()) for file in files if file.startswith(prefix))
    return [word for synsets in chosen for synset in synsets for word in synset[take]]


def _read_files(paths: Sequence[str]) -> list[str]:
    return [line for path in paths for line in read_lines(path, "word list")]


def read_lines(path: str | Path, what: str) -> list[str]:
    """Return the lines of a UTF-8 text file; `what` names its kind in the MmoodError of a file that is none."""
    return read_text(path, f"The {what} '{path}'").splitlines()
