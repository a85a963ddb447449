"""A reader of WordNet's `dict` files: plain text in, words by lexicographer file out."""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from pathlib import Path

from mmood.errors import MmoodError
from mmood.files import user_path

LEXICOGRAPHER_FILES: tuple[str, ...] = (
    *("adj.all", "adj.pert", "adv.all", "noun.Tops", "noun.act", "noun.animal", "noun.artifact", "noun.attribute"),
    *("noun.body", "noun.cognition", "noun.communication", "noun.event", "noun.feeling", "noun.food", "noun.group"),
    *("noun.location", "noun.motive", "noun.object", "noun.person", "noun.phenomenon", "noun.plant"),
    *("noun.possession", "noun.process", "noun.quantity", "noun.relation", "noun.shape", "noun.state"),
    *("noun.substance", "noun.time", "verb.body", "verb.change", "verb.cognition", "verb.communication"),
    *("verb.competition", "verb.consumption", "verb.contact", "verb.creation", "verb.emotion", "verb.motion"),
    *("verb.perception", "verb.possession", "verb.social", "verb.stative", "verb.weather", "adj.ppl"),
)
"""The 45 lexicographer files; a file's index is the number that stands in each line of data.* (lexnames(5WN))."""

_DATA_FILES = ("data.noun", "data.adj")
_USUAL = ("/usr/share/wordnet", "/usr/local/WordNet-3.0/dict", "/usr/local/share/wordnet")
_USUAL_NLTK = ("/usr/share/nltk_data", "/usr/local/share/nltk_data")
_MARKER = re.compile(r"\((?:a|p|ip)\)$")
_VERSION = re.compile(r"WordNet (\d+(?:\.\d+)*)")


@dataclass(frozen=True)
class WordNet:
    """The nouns and adjectives of one WordNet.

    Attributes:
        version: the version in the header of data.noun, such as "3.0"; "unknown" if it names none.
        synsets: lexicographer file -> its synsets in the order of the data file; a synset is its words as spelt there
            (underscores, upper case), without the markers (a), (p), (ip) of adjectives.
    """

    version: str
    synsets: Mapping[str, tuple[tuple[str, ...], ...]]


def read_wordnet(folder: str | Path | None = None) -> WordNet:
    """Return the WordNet in `folder`, or the first that `find_wordnet` finds.

    Raises:
        MmoodError: there is no WordNet, or a line is not in the format of wndb(5WN).
    """
    source = find_wordnet(folder)
    synsets: dict[str, list[tuple[str, ...]]] = {}
    version = "unknown"
    for name in _DATA_FILES:
        # Latin letters with accents stand in no word; a damaged byte must not end in another exception.
        with (source / name).open("r", encoding="utf-8", errors="replace") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.startswith(" "):
                    file, words = _parse(line, f"{source / name}, line {number}")
                    synsets.setdefault(file, []).append(words)
                elif version == "unknown":
                    version = version_in(line) or version
    return WordNet(version, {file: tuple(members) for file, members in synsets.items()})


def find_wordnet(folder: str | Path | None = None) -> Traversable:
    """Return the folder (or the folder in NLTK's zip file) that holds data.noun and data.adj.

    A given `folder` is the only one tried. Otherwise, in this order: `$WNSEARCHDIR`, `$WNHOME/dict`, the places of
    Debian's package, NLTK's data (`$NLTK_DATA`, then its usual folders).

    Raises:
        MmoodError: none of them holds both files.
    """
    for place in [user_path(folder)] if folder is not None else _usual_places():
        if all((place / name).is_file() for name in _DATA_FILES):
            return place
    if folder is not None:
        raise MmoodError(f"There is no WordNet in '{folder}': the folder must hold the files data.noun and data.adj.")
    raise MmoodError(
        "No WordNet was found: install Debian's package (apt install wordnet-base), or NLTK's data (python -m "
        "nltk.downloader wordnet), or name a folder with WordNet's data.noun and data.adj in the environment variable "
        "WNSEARCHDIR or in the setting corpus.wordnet."
    )


def version_in(line: str) -> str | None:
    """Return the version that a line of a file's header names, or None.

    >>> version_in("  2 WordNet 3.0 Copyright 2006 by Princeton University.")
    '3.0'
    """
    found = _VERSION.search(line)
    return found[1] if found else None


def _usual_places() -> Iterator[Traversable]:
    if "WNSEARCHDIR" in os.environ:
        yield Path(os.environ["WNSEARCHDIR"])
    if "WNHOME" in os.environ:
        yield Path(os.environ["WNHOME"], "dict")
    yield from map(Path, _USUAL)
    given = [Path(entry) for entry in os.environ.get("NLTK_DATA", "").split(os.pathsep) if entry]
    for data in [*given, Path.home() / "nltk_data", *map(Path, _USUAL_NLTK)]:
        yield data / "corpora" / "wordnet"
        if (packed := data / "corpora" / "wordnet.zip").is_file():
            yield zipfile.Path(packed, "wordnet/")


def _parse(line: str, where: str) -> tuple[str, tuple[str, ...]]:
    # offset, lexicographer number, type, number of words (hexadecimal), then a pair of word and id for each.
    fields = line.split(" ")
    try:
        file, count = LEXICOGRAPHER_FILES[int(fields[1])], int(fields[3], 16)
        return file, tuple(_MARKER.sub("", fields[4 + 2 * index]) for index in range(count))
    except (ValueError, IndexError) as error:
        raise MmoodError(f"{where} is not a synset in WordNet's data format: '{line.strip()[:60]}'.") from error
