"""Outlier names out of WordNet, without any model: a baseline, and our own lists for ImageNet and the demo.

Near names are siblings of an ID class at a stated distance in the taxonomy; far names come from other supersenses
(WordNet's lexicographer files, such as noun.animal) than most ID classes have.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import zip_longest
from typing import Literal, final

from mmood.classes import imagenet
from mmood.classes.matching import folded
from mmood.errors import MmoodError
from mmood.proposals.proposal import Proposal
from mmood.proposals.selection import Selection
from mmood.settings import check_choice, check_count, check_number
from mmood.words.taxonomy import Taxonomy, spelt

Rank = tuple[int, bool]
"""Distance of a name from its class, and whether its word is an uncommon one; the smallest comes first."""

Kind = Literal["near", "far", "both"]
KINDS: tuple[Kind, ...] = ("near", "far", "both")

VISIBLE = tuple(
    f"noun.{name}"
    for name in (
        *("animal", "artifact", "body", "food", "location", "object", "person", "phenomenon", "plant", "shape"),
        "substance",
    )
)
"""The supersenses of what can be photographed."""


@final
@dataclass(frozen=True)
class WordNetSettings:
    """Which names to take.

    Attributes:
        kind: near names, far names, or both.
        per_class: near names of each class, at most.
        distance: of near names, at most; 2 is a child of the same parent, 4 a cousin. Nearer ones are taken first.
        count: far names in all, at most, as many of each supersense as there are.
        share: a supersense is another one if at most this share of the ID classes has it.
        seed: chooses among equals.
    """

    kind: Kind = "both"
    per_class: int = 3
    distance: int = 4
    count: int = 500
    share: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        check_choice("kind", self.kind, KINDS)
        check_count("per_class", self.per_class)
        check_count("distance", self.distance, least=2, most=8)
        check_count("count", self.count)
        check_number("share", self.share, least=0, most=1)
        check_count("seed", self.seed, least=0)


@final
@dataclass(frozen=True)
class _Place:
    """Where an ID class stands in the taxonomy.

    Attributes:
        synsets: what it means, or what it is a kind of; empty if WordNet says neither.
        before: words of its name in front of the part that WordNet has, such as "red" of "red circle", which is
            a kind of its synset; "" where WordNet has the whole name.
    """

    synsets: tuple[str, ...]
    before: str = ""


def propose_from_wordnet(
    taxonomy: Taxonomy,
    class_names: Sequence[str],
    settings: WordNetSettings = WordNetSettings(),
) -> Proposal:
    """Return names that no ID class has.

    A class that ImageNet knows is its synset there. Another is the first sense of its name that can be photographed, or
    else a kind of what the last words of its name mean. Names are first senses of their words, so that a text tower
    takes them as they are meant; nothing is proposed that an ID class is a kind of, or that is a kind of an ID class.

    Raises:
        MmoodError: WordNet has none of the class names.
    """
    places = {name: _place(taxonomy, name) for name in class_names}
    known = {offset for place in places.values() for offset in place.synsets}
    if not known:
        raise MmoodError(
            f"WordNet {taxonomy.version} has none of the {len(class_names)} class names, such as '{class_names[0]}'; "
            "the method wordnet needs names of things."
        )
    selection = Selection(class_names)
    related = frozenset[str]().union(*(taxonomy.ancestors(at) | taxonomy.descendants(at) for at in known))
    if settings.kind != "far":
        _take_near(selection, taxonomy, places, related, settings)
    if settings.kind != "near":
        _take_far(selection, taxonomy, places, related, settings)
    absent = [name for name, place in places.items() if not place.synsets]
    notes = [f"WordNet has no name of {len(absent)} classes, such as '{absent[0]}'."] if absent else []
    return Proposal(selection.names, {"wordnet": taxonomy.version, **asdict(settings)}, notes=tuple(notes))


def _place(taxonomy: Taxonomy, name: str) -> _Place:
    if taxonomy.version == "3.0":
        # ImageNet's synsets are offsets of this version.
        synsets = sorted(synset[1:] for synset in imagenet.synsets_of(folded(name)))
        if synsets and all(offset in taxonomy.synsets for offset in synsets):
            return _Place(tuple(synsets))
    words = spelt(name).split("_")
    for start in range(len(words)):
        senses = taxonomy.senses.get("_".join(words[start:]), ())
        if visible := [offset for offset in senses if taxonomy.synsets[offset].supersense in VISIBLE]:
            return _Place((visible[0],), " ".join(words[:start]))
    return _Place(())


def _take_near(
    selection: Selection,
    taxonomy: Taxonomy,
    places: Mapping[str, _Place],
    related: frozenset[str],
    settings: WordNetSettings,
) -> None:
    """Take up to `per_class` siblings of each class: the nearest first, common words before others, then by lot."""
    free = _free_modifiers(places)
    for name, place in places.items():
        if place.before in free:
            candidates = _recombined(taxonomy, place, free, settings.distance)
        else:
            candidates = {} if place.before else _siblings(taxonomy, place, related, settings.distance)
        ordered = sorted(candidates, key=lambda word: (candidates[word], _lot(settings.seed, name, word)))
        taken = 0
        for word in ordered:
            taken += taken < settings.per_class and selection.take(word, "near", bool(place.before), name)


def _siblings(taxonomy: Taxonomy, place: _Place, related: frozenset[str], most: int) -> dict[str, Rank]:
    """Return the words of the siblings of a class -> their ranks."""
    found: dict[str, Rank] = {}
    for offset in place.synsets:
        for sibling, distance in taxonomy.siblings(offset, most).items():
            if sibling not in related and _is_proposable(taxonomy, sibling):
                word, rank = taxonomy.synsets[sibling].words[0], (distance, not taxonomy.is_familiar(sibling))
                found[word] = min(rank, found.get(word, rank))
    return found


def _free_modifiers(places: Mapping[str, _Place]) -> frozenset[str]:
    """Return the words that stand in front of different nouns, such as colours."""
    heads: dict[str, set[tuple[str, ...]]] = {}
    for place in places.values():
        if place.before:
            heads.setdefault(place.before, set()).add(place.synsets)
    return frozenset(before for before, different in heads.items() if len(different) > 1)


def _recombined(taxonomy: Taxonomy, place: _Place, free: frozenset[str], most: int) -> dict[str, Rank]:
    """Return the siblings of a class that is a kind of its head -> their ranks.

    The head has other kinds, one for each modifier (distance 2), and so have the head's siblings, two steps farther.
    """
    head = taxonomy.synsets[place.synsets[0]].words[0]
    found: dict[str, Rank] = {f"{before} {head}": (2, False) for before in free}
    for word, (distance, uncommon) in _siblings(taxonomy, place, frozenset(), most - 2).items():
        found[f"{place.before} {word}"] = (distance + 2, uncommon)
    return found


def _take_far(
    selection: Selection,
    taxonomy: Taxonomy,
    places: Mapping[str, _Place],
    related: frozenset[str],
    settings: WordNetSettings,
) -> None:
    """Take up to `count` common words of other supersenses, in turns of each."""
    of_id = Counter(taxonomy.synsets[place.synsets[0]].supersense for place in places.values() if place.synsets)
    other = [name for name in VISIBLE if of_id[name] <= settings.share * of_id.total()]
    known = {offset for place in places.values() for offset in place.synsets}
    excluded = related.union(*(taxonomy.siblings(offset, settings.distance) for offset in known))
    words: dict[str, list[str]] = {name: [] for name in other}
    for offset, synset in taxonomy.synsets.items():
        wanted = synset.supersense in words and offset not in excluded and synset.words[0].islower()
        if wanted and _is_proposable(taxonomy, offset) and taxonomy.is_familiar(offset):
            words[synset.supersense].append(synset.words[0])
    for name, members in words.items():
        members.sort(key=lambda word: _lot(settings.seed, name, word))
    taken = 0
    for turn in zip_longest(*words.values()):
        for name, word in zip(words, turn, strict=True):
            taken += word is not None and taken < settings.count and selection.take(word, "far", False, name)


def _is_proposable(taxonomy: Taxonomy, offset: str) -> bool:
    """Return whether a synset is a kind of thing that can be photographed, and what its first word usually means."""
    synset = taxonomy.synsets[offset]
    return not synset.is_instance and synset.supersense in VISIBLE and taxonomy.is_first_sense(offset)


def _lot(seed: int, name: str, word: str) -> bytes:
    """Return what puts the candidates of a class in an order by lot, the same on every machine."""
    return hashlib.sha256(f"{seed}/{name}/{word}".encode()).digest()
