"""WordNet's nouns as a taxonomy: which synset is a kind of which, and which sense of a word comes first."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import final

from mmood.errors import MmoodError
from mmood.words.wordnet import LEXICOGRAPHER_FILES, find_wordnet, version_in

_KIND_OF, _INSTANCE_OF = "@", "@i"


@final
@dataclass(frozen=True)
class Synset:
    """A noun's meaning.

    Attributes:
        supersense: the lexicographer file, such as "noun.animal".
        words: its words as WordNet spells them.
        parents: offsets of the synsets that it is a kind of.
        is_instance: it is a single thing with a name of its own, such as a person or a river.
    """

    supersense: str
    words: tuple[str, ...]
    parents: tuple[str, ...]
    is_instance: bool


@final
@dataclass(frozen=True)
class Taxonomy:
    """The nouns of one WordNet. A synset is known by its offset in data.noun, eight digits.

    Attributes:
        version: of WordNet.
        synsets: by offset.
        children: offset -> offsets of the synsets that are a kind of it.
        senses: word in lower case, with underscores -> offsets of its senses, the most frequent first.
        familiar: word -> number of its senses that occur in WordNet's tagged texts; these come first.
    """

    version: str
    synsets: Mapping[str, Synset]
    children: Mapping[str, tuple[str, ...]]
    senses: Mapping[str, tuple[str, ...]]
    familiar: Mapping[str, int]

    def ancestors(self, offset: str) -> frozenset[str]:
        """Return all that a synset is a kind of, itself included."""
        return _reached(offset, lambda at: self.synsets[at].parents)

    def descendants(self, offset: str) -> frozenset[str]:
        """Return all that is a kind of a synset, itself included."""
        return _reached(offset, lambda at: self.children.get(at, ()))

    def siblings(self, offset: str, most: int) -> dict[str, int]:
        """Return the synsets that share an ancestor with a synset -> their distance, up to `most` steps.

        A step leads from a synset to its parent or to a child. A way first goes up and then down, at least once each: a
        child of the same parent has distance 2, a cousin 4.
        """
        found: dict[str, int] = {}
        level = {offset}
        for up in range(1, most):
            level = {parent for at in level for parent in self.synsets[at].parents}
            below = level
            for down in range(1, most - up + 1):
                below = {child for at in below for child in self.children.get(at, ())}
                for child in below:
                    found[child] = min(found.get(child, most), up + down)
        related = self.ancestors(offset) | self.descendants(offset)
        return {at: distance for at, distance in found.items() if at not in related}

    def is_first_sense(self, offset: str) -> bool:
        """Return whether a synset is what its own first word usually means."""
        return self.senses[spelt(self.synsets[offset].words[0])][:1] == (offset,)

    def is_familiar(self, offset: str) -> bool:
        """Return whether a synset is the first sense of its first word, and the word is a common one."""
        return self.is_first_sense(offset) and self.familiar[spelt(self.synsets[offset].words[0])] > 0


def read_taxonomy(folder: str | Path | None = None) -> Taxonomy:
    """Return the nouns of the WordNet in `folder`, or of the first that `find_wordnet` finds.

    Raises:
        MmoodError: there is no WordNet, it lacks index.noun, or a line is not in the format of wndb(5WN).
    """
    source = find_wordnet(folder)
    version, synsets = read_synsets(source)
    children: dict[str, list[str]] = {}
    for offset, synset in synsets.items():
        for parent in synset.parents:
            children.setdefault(parent, []).append(offset)
    senses: dict[str, tuple[str, ...]] = {}
    familiar: dict[str, int] = {}
    for line, where in _lines(source / "index.noun"):
        if not line.startswith(" "):
            word, familiar_senses, offsets = _senses(line, where)
            senses[word], familiar[word] = offsets, familiar_senses
    _check(synsets, senses, source)
    return Taxonomy(version, synsets, {at: tuple(below) for at, below in children.items()}, senses, familiar)


def read_synsets(source: Traversable) -> tuple[str, dict[str, Synset]]:
    """Return the version of a WordNet and its nouns by offset.

    Args:
        source: what `find_wordnet` returned.

    Raises:
        MmoodError: a line is not in the format of wndb(5WN).
    """
    version = "unknown"
    synsets: dict[str, Synset] = {}
    for line, where in _lines(source / "data.noun"):
        if line.startswith(" "):
            version = version_in(line) or version
        else:
            offset, synset = _synset(line, where)
            synsets[offset] = synset
    return version, synsets


def spelt(word: str) -> str:
    """Return a word in the spelling of `Taxonomy.senses`.

    >>> spelt("Great white  shark")
    'great_white_shark'
    """
    return "_".join(word.lower().replace("_", " ").split())


def _reached(offset: str, following: Callable[[str], Iterable[str]]) -> frozenset[str]:
    seen: set[str] = set()
    waiting = [offset]
    while waiting:
        at = waiting.pop()
        if at not in seen:
            seen.add(at)
            waiting += following(at)
    return frozenset(seen)


def _lines(file: Traversable) -> Iterator[tuple[str, str]]:
    """Yield each line of a file, and where it is."""
    try:
        with file.open("r", encoding="utf-8", errors="replace") as lines:
            for number, line in enumerate(lines, start=1):
                yield line, f"{file}, line {number}"
    except (OSError, KeyError) as error:  # KeyError: not in a zip file
        raise MmoodError(
            f"The WordNet has no file {file}, which says what its words mean; install it whole."
        ) from error


def _synset(line: str, where: str) -> tuple[str, Synset]:
    # offset, lexicographer number, type, number of words (hexadecimal), a pair of word and id for each; number of
    # pointers (decimal), and for each its sign, the offset and part of speech that it leads to, and the words meant.
    fields = line.split(" ")
    try:
        count = int(fields[3], 16)
        words = tuple(fields[4 : 4 + 2 * count : 2])
        first = 5 + 2 * count
        pointers = [(fields[at], fields[at + 1]) for at in range(first, first + 4 * int(fields[first - 1]), 4)]
        supersense = LEXICOGRAPHER_FILES[int(fields[1])]
        if len(words) != count or not count:
            raise ValueError
    except (ValueError, IndexError) as error:
        raise MmoodError(f"{where} is not a synset in WordNet's data format: '{line.strip()[:60]}'.") from error
    parents = tuple(offset for sign, offset in pointers if sign == _KIND_OF)
    return fields[0], Synset(supersense, words, parents, any(sign == _INSTANCE_OF for sign, _ in pointers))


def _senses(line: str, where: str) -> tuple[str, int, tuple[str, ...]]:
    # word, part of speech, number of senses, number of pointer signs, the signs; number of senses, how many of them
    # are in tagged texts, the offsets.
    fields = line.split()
    try:
        count, signs = int(fields[2]), int(fields[3])
        offsets = tuple(fields[6 + signs :])
        if len(offsets) != count:
            raise ValueError
        return fields[0], int(fields[5 + signs]), offsets
    except (ValueError, IndexError) as error:
        raise MmoodError(f"{where} is not an entry in WordNet's index format: '{line.strip()[:60]}'.") from error


def _check(synsets: Mapping[str, Synset], senses: Mapping[str, tuple[str, ...]], source: Traversable) -> None:
    """Raise MmoodError unless every synset that is pointed to is there, and every first word in the index."""
    for offset, synset in synsets.items():
        if any(parent not in synsets for parent in synset.parents) or spelt(synset.words[0]) not in senses:
            raise MmoodError(
                f"The WordNet in {source} is incomplete: nothing is found for '{synset.words[0]}' ({offset})."
            )
