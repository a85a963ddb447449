"""The sets of a test: of one benchmark, or of several in one pass, in which no image is encoded twice."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from mmood.data.catalog import ID_GROUP, ID_GROUPS, Catalog, EvaluationSet, Member, members
from mmood.data.settings import DataPlan
from mmood.errors import MmoodError
from mmood.features.stores import hashes_folder
from mmood.output.console import progress_bar
from mmood.recipes.registry import known_recipe
from mmood.shards.hashes import NO_IMAGE, image_hashes, kept_hashes
from mmood.shards.index import Hashes, Keys


@dataclass(frozen=True)
class View:
    """A set as a part of a larger one.

    Attributes:
        of: the larger set, which is read.
        keys: for each key of the set the key of the same image in the larger one.
    """

    of: str
    keys: Keys


@dataclass(frozen=True)
class ProtocolSets:
    """The sets of one benchmark.

    Attributes:
        name: of the benchmark; None where a run has a single one.
        sets: by name, the ID set first.
        views: those of its sets that are read as parts of others.
    """

    name: str | None
    sets: Mapping[str, EvaluationSet]
    views: Mapping[str, View]

    def read_as(self, name: str) -> str:
        """Return the set in whose place the images of a set are read: its own, or a larger one."""
        return self.views[name].of if name in self.views else name


class TestedSets:
    """The sets of a test.

    Args:
        plan: of the data.
        train: the training set, None without one.
        catalog: finds them.
        skip: leave out images that cannot be read.
    """

    def __init__(self, plan: DataPlan, train: str | None, catalog: Catalog, skip: bool) -> None:
        self.plan = plan
        self.train = train
        self.catalog = catalog
        self.skip = skip
        self.notes: list[str] = []
        self._views: dict[str, View] | None = None

    def members(self) -> list[Member]:
        """Return the sets, those of several benchmarks once each, ID sets first."""
        wanted = [member for id, ood, csid in self.plan.tests() for member in members(id, ood, self.train, csid)]
        wanted.sort(key=lambda member: (member.group != ID_GROUP, member.group not in ID_GROUPS))
        return list({member.name: member for member in reversed(wanted)}.values())[::-1]

    def read(self) -> dict[str, EvaluationSet]:
        """Return the sets that are read, by name: without those that are parts of others."""
        sets = self.catalog.evaluation_sets(self.members())
        return {name: entry for name, entry in sets.items() if name not in self._found()}

    def whole(self, sets: Mapping[str, EvaluationSet]) -> EvaluationSet:
        """Return the one of these sets that the others are parts of; MmoodError if there is none."""
        parts, _ = find_views(sets, self._hashes) if len(sets) > 1 else ({}, [])
        found = [entry for name, entry in sets.items() if name not in parts]
        if len(found) != 1:
            names = ", ".join(map(repr, sets))
            raise MmoodError(f"There are several ID sets ({names}), and none holds the others; name one benchmark.")
        return found[0]

    def protocols(self) -> list[ProtocolSets]:
        """Return the sets of each benchmark, as it groups them."""
        if not self.plan.protocols:
            return [ProtocolSets(None, self.read(), {})]
        views, found = self._found(), []
        for each in self.plan.protocols:
            sets = self.catalog.evaluation_sets(members(each.id, each.ood, self.train, each.csid))
            found.append(ProtocolSets(each.name, sets, {name: views[name] for name in sets if name in views}))
        return found

    def _found(self) -> dict[str, View]:
        if self._views is None:
            several = bool(self.plan.protocols)
            sets = self.catalog.evaluation_sets(self.members()) if several else {}
            self._views, self.notes = find_views(sets, self._hashes)
        return self._views

    def _hashes(self, entry: EvaluationSet) -> Hashes | None:
        index = entry.index
        known = kept_hashes(index, entry.keys, hashes_folder())
        if known is not None:
            return known
        try:
            index.bytes_here()
        except MmoodError:  # hashing would read all of it over the network
            return None
        with progress_bar(f"hashing {index.name}", entry.count, transient=True) as bar:
            return image_hashes(index, entry.keys, hashes_folder(), self.skip, bar.advance)


def find_views(
    sets: Mapping[str, EvaluationSet], hashes: Callable[[EvaluationSet], Hashes | None]
) -> tuple[dict[str, View], list[str]]:
    """Return the views among sets that are variants of one another, and what the user should know of the others.

    Args:
        sets: all sets of several benchmarks, by name.
        hashes: returns the hash of each image of a set (`image_hashes`), None if they cannot be had.
    """
    views: dict[str, View] = {}
    notes = []
    for name, entry in sorted(sets.items(), key=lambda item: item[1].count):
        known = known_recipe(name)
        larger = None if known is None or known.variant is None else sets.get(known.variant)
        if larger is None or larger.count < entry.count or larger.name in views:
            continue
        keys = _keys_in(entry, larger, hashes(entry), hashes(larger))
        if keys is None:
            notes.append(
                f"Not every image of '{name}' is in '{larger.name}' with the same label, so both sets are encoded."
            )
        else:
            views[name] = View(larger.name, keys)
    return views, notes


def _keys_in(entry: EvaluationSet, larger: EvaluationSet, own: Hashes | None, others: Hashes | None) -> Keys | None:
    """Return the key of each image of a set in a larger one; None if one is not there, or not with the same label."""
    if own is None or others is None or (own == NO_IMAGE).any():
        return None
    order = np.argsort(others, kind="stable")
    place = np.searchsorted(others[order], own)
    found = order[np.minimum(place, len(order) - 1)]
    if not (others[found] == own).all():
        return None
    keys: Keys = larger.keys[found]
    return keys if entry.group not in ID_GROUPS or _same_labels(entry, larger, keys) else None


def _same_labels(entry: EvaluationSet, larger: EvaluationSet, keys: Keys) -> bool:
    try:
        own, others = entry.index.rows(), larger.index.rows()
    except MmoodError:  # without a table the labels are known only when the shards are read
        return False
    return all(own[key].label == others[there].label for key, there in zip(entry.keys, keys, strict=True))
