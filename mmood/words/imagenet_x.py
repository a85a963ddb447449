"""The two halves of ImageNet-X: each class of ImageNet-1k with its siblings in WordNet, half of them ID, half OoD.

Noda et al., arXiv 2501.18463. Classes that share a parent form a group; groups come in the order of their first class.
The first half of a group goes to `first`, the second to `second`, and the odd classes alternate, the first one to
`first`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mmood.classes.imagenet import synsets
from mmood.errors import MmoodError, unknown
from mmood.words.taxonomy import read_synsets
from mmood.words.wordnet import find_wordnet

# WordNet gives some classes several parents. The authors took the last one in a file of ImageNet whose order follows no
# rule; where that is not WordNet's first parent, it is here. With these, the lists are the authors' lists.
_PARENTS = {
    "n02808304": "n02807260", "n02916936": "n02862048", "n03085013": "n03163973", "n03134739": "n03134853",
    "n03445924": "n03446832", "n03602883": "n03163973", "n03724870": "n03206718", "n03770679": "n02958343",
    "n03773504": "n04565375", "n03982430": "n03414162", "n04371774": "n03964744", "n04389033": "n04464852",
    "n04423845": "n03094503", "n04458633": "n03282591", "n04486054": "n03743902",
}  # fmt: skip

_SUBSETS = ("imagenet-x-first", "imagenet-x-second")


def class_subset(name: str, wordnet: str | Path | None = None) -> tuple[int, ...]:
    """Return the labels of a subset of ImageNet's classes, ascending: `imagenet-x-first` or `imagenet-x-second`.

    Args:
        name: of the subset.
        wordnet: folder of WordNet 3.0; by default where it usually is.

    Raises:
        MmoodError: there is no such subset, or no WordNet.
    """
    if name not in _SUBSETS:
        raise unknown("subset of classes", name, _SUBSETS)
    hypernyms = read_hypernyms(wordnet)
    odd = next((synset for synset in synsets() if synset not in hypernyms), None)
    if odd is not None:
        raise MmoodError(f"This WordNet has no noun {odd}; ImageNet's synsets are those of WordNet 3.0.")
    parents = [_PARENTS.get(synset) or hypernyms[synset][0] for synset in synsets()]
    return tuple(sorted(halves(parents)[_SUBSETS.index(name)]))


def read_hypernyms(wordnet: str | Path | None = None) -> dict[str, tuple[str, ...]]:
    """Return the parents of each noun synset that has any, as ImageNet names synsets (`n` and the offset).

    Raises:
        MmoodError: there is no WordNet, or a line is not in the format of wndb(5WN).
    """
    _, synsets = read_synsets(find_wordnet(wordnet))
    return {f"n{at}": tuple(f"n{up}" for up in synset.parents) for at, synset in synsets.items() if synset.parents}


def halves(parents: Sequence[str]) -> tuple[list[int], list[int]]:
    """Return the labels of the two halves, from the parent of each label.

    >>> halves(["fish", "fish", "fish", "bird", "bird", "bird"])
    ([0, 1, 3], [2, 4, 5])
    """
    groups: dict[str, list[int]] = {}
    for label, parent in enumerate(parents):
        groups.setdefault(parent, []).append(label)
    first: list[int] = []
    second: list[int] = []
    extra_to_first = True
    for group in groups.values():
        middle = len(group) // 2
        if len(group) % 2:
            middle += extra_to_first
            extra_to_first = not extra_to_first
        first += group[:middle]
        second += group[middle:]
    return first, second
