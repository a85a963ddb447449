"""The mapping from classes to labels: folders, synsets and names are matched by name.

The order of the labels is that of the class names where there are any. Two names are the same if they differ only in
case, underscores and blanks, or if both name one synset of ImageNet (`n01440764` and `tench`, `cock` and `rooster`).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from mmood.classes import imagenet
from mmood.errors import MmoodError

_ODD_SHOWN = 5


@dataclass(frozen=True)
class Classes:
    """The classes of a folder of class folders, in the order of the labels.

    Attributes:
        folders: name of each folder.
        names: name of each class; the folder's own where there are no class names.
        odd: labels whose folder and name are not known to mean the same.
    """

    folders: tuple[str, ...]
    names: tuple[str, ...]
    odd: tuple[int, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """A comparison of the names in a set with the requested class names.

    Attributes:
        moved: the first label whose name stands at another label among the class names, and that label; None if none.
        odd: labels whose two names are not known to mean the same.
    """

    moved: tuple[int, int] | None
    odd: tuple[int, ...]


def folded(name: str) -> str:
    """Return a name without what is only spelling: case, underscores, blanks, the form of accents.

    >>> folded(" Great_Dane")
    'great dane'
    """
    return " ".join(unicodedata.normalize("NFKC", name).replace("_", " ").casefold().split())


def are_names(names: Sequence[str]) -> bool:
    """Return whether there are names, and not just numbers, which say nothing of the classes."""
    return not all(_is_number(name) for name in names)


def sorted_folders(folders: Iterable[str]) -> list[str]:
    """Return class folders in the order of their labels: as numbers if all are integers, else by name.

    Raises:
        MmoodError: two folders are the same number.

    >>> sorted_folders(["10", "9", "0"]), sorted_folders(["b10", "b9"])
    (['0', '9', '10'], ['b10', 'b9'])
    """
    found = sorted(folders)
    if not all(_is_number(folder) for folder in found):
        return found
    found.sort(key=int)
    twice = next(((a, b) for a, b in pairwise(found) if int(a) == int(b)), None)
    if twice is not None:
        raise MmoodError(
            f"The class folders '{twice[0]}' and '{twice[1]}' stand for the same number; rename one of them."
        )
    return found


def join(folders: Iterable[str], names: Sequence[str], where: str) -> Classes:
    """Return which folder is which class.

    Folders whose names are those of the classes, in any order, get the labels of their names. Where names say nothing
    of the folders, the sorted folders are labelled in order, and `odd` lists them.

    Args:
        folders: the class folders.
        names: the class names in the order of the labels; empty for the folders' own.
        where: what holds the folders, for an error.

    Raises:
        MmoodError: there is another number of names, or the names tell the order of some folders only, and it is not
            that of the sorted folders.
    """
    ordered = sorted_folders(folders)
    if not names:
        return Classes(tuple(ordered), tuple(ordered))
    if len(names) != len(ordered):
        raise MmoodError(f"{where} has {len(ordered)} class folders, and the class file has {len(names)} names.")
    candidates = _candidates(ordered, names, any(map(imagenet.is_synset, ordered)))
    if all(label in found for label, found in enumerate(candidates) if found):
        odd = [label for label, found in enumerate(candidates) if not found and not _is_number(ordered[label])]
        return Classes(tuple(ordered), tuple(names), tuple(odd))
    labels = _by_elimination(candidates)
    if len(labels) == len(ordered):
        return Classes(tuple(ordered[place] for place in sorted(labels, key=labels.__getitem__)), tuple(names))
    moved = next(place for place, found in enumerate(candidates) if found and place not in found)
    lost = next(place for place in range(len(ordered)) if place not in labels)
    numbers = f"number {moved + 1} of the sorted folders and has the name on line {min(candidates[moved]) + 1}"
    raise MmoodError(
        f"{where}: the folder '{ordered[moved]}' is {numbers} of the class file, but no line there belongs to the "
        f"folder '{ordered[lost]}' alone; give the classes the names of their folders, or sort the file like the "
        "folders."
    )


def compare(known: Sequence[str], wanted: Sequence[str]) -> Comparison:
    """Return a comparison of the names of a set (by label) with other class names (by label); "" is an unknown name."""
    candidates = _candidates(known, wanted, by_meaning=True)
    pairs = list(enumerate(candidates))
    moved = next(((label, min(found)) for label, found in pairs if found and label not in found), None)
    return Comparison(moved, tuple(label for label, found in pairs if not found and known[label]))


def table(classes: Classes) -> list[str]:
    """Return lines `label  folder  name` of the first and the last class, and of the first odd ones."""
    shown = sorted({0, len(classes.names) - 1, *classes.odd[:_ODD_SHOWN]})
    rows = [("label", "folder", "name")]
    rows += [(str(label), classes.folders[label], classes.names[label]) for label in shown]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    if classes.odd:
        lines.append(f"{len(classes.odd)} of {len(classes.names)} folders do not have the names of their classes.")
    return lines


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdecimal()


def _candidates(these: Sequence[str], others: Sequence[str], by_meaning: bool) -> list[set[int]]:
    """Return for each of these names at which places of the others the same stands; "" stands nowhere.

    Args:
        these: some names.
        others: other names.
        by_meaning: look up in ImageNet, too, which names mean the same where spelling does not tell.
    """
    exact, plain = _places([{name} for name in others]), _places([{folded(name)} for name in others])
    found = [set(exact.get(name) or plain.get(folded(name)) or ()) if name else set() for name in these]
    if not by_meaning or all(place in places for place, places in enumerate(found)):
        return found
    meanings = _places([imagenet.synsets_of(folded(name)) for name in others])
    for place, name in enumerate(these):
        if name and place not in found[place]:
            found[place].update(*(meanings.get(synset, ()) for synset in imagenet.synsets_of(folded(name))))
    return found


def _places(names: Iterable[Iterable[str]]) -> dict[str, list[int]]:
    """Return the positions of each spelling."""
    places: dict[str, list[int]] = {}
    for place, spellings in enumerate(names):
        for spelling in spellings:
            places.setdefault(spelling, []).append(place)
    return places


def _by_elimination(candidates: Sequence[set[int]]) -> dict[int, int]:
    """Return the label of each place that has one candidate only, once those of others are taken away."""
    left = {place: set(found) for place, found in enumerate(candidates)}
    labels: dict[int, int] = {}
    while settled := {place: min(found) for place, found in left.items() if len(found) == 1}:
        labels |= settled
        taken = set(settled.values())
        left = {place: found - taken for place, found in left.items() if place not in settled}
    return labels if len(set(labels.values())) == len(labels) else {}
