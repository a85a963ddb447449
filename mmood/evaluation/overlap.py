"""Which test images are exact copies of images that they must not be: public OoD sets contain some ID images.

Files are compared by the hashes of their bytes. Packed sets come with these, also large and remote ones; for others
they are computed once and kept in the cache, so that a test of sets that were seen before reads no image for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from mmood.data.catalog import ID_GROUPS, EvaluationSet
from mmood.errors import MmoodError
from mmood.features.stores import hashes_folder
from mmood.output.console import progress_bar
from mmood.results.model import Overlap
from mmood.shards.hashes import are_copies, image_hashes, kept_hashes
from mmood.shards.index import Hashes, Keys, SetIndex

MOST_BYTES = 2**34
"""Bytes of a set whose hashes are not known, at most: larger ones, such as ImageNet's training set, are not read."""


@dataclass(frozen=True)
class IdImages:
    """ID images that OoD images are compared with.

    Attributes:
        index: of their set.
        keys: which of them, ascending.
    """

    index: SetIndex
    keys: Keys


def find_overlaps(sets: Mapping[str, EvaluationSet], train: IdImages | None, skip: bool, quiet: bool) -> list[Overlap]:
    """Return how many images of each OoD set are among those of the ID test set and of the ID training set.

    Args:
        sets: the ID set and the OoD sets of a test.
        train: the ID training images, None if the settings name none.
        skip: leave out images that cannot be read.
        quiet: show no progress.
    """
    known = _Known(skip, quiet)
    id_images = [IdImages(entry.index, entry.keys) for entry in sets.values() if entry.group in ID_GROUPS]
    if train is not None:
        id_images.append(train)
    return [
        _overlap(entry, other, known)
        for entry in sets.values()
        if entry.group not in ID_GROUPS and entry.count
        for other in id_images
    ]


def find_trained_on(sets: Mapping[str, EvaluationSet], train: IdImages, skip: bool, quiet: bool) -> list[Overlap]:
    """Return how many images of each test set are among the training images; see `find_overlaps`."""
    known = _Known(skip, quiet)
    found = [_overlap(entry, train, known) for entry in sets.values() if entry.count]
    return [replace(one, trained_on=True) for one in found]


def _overlap(entry: EvaluationSet, other: IdImages, known: _Known) -> Overlap:
    try:
        copies = are_copies(known.hashes(entry.index, entry.keys), known.hashes(other.index, other.keys))
    except MmoodError as error:
        return Overlap(set=entry.name, id_set=other.index.name, n=entry.count, copies=None, reason=str(error))
    return Overlap(set=entry.name, id_set=other.index.name, n=entry.count, copies=int(copies.sum()))


@dataclass(frozen=True)
class _Known:
    """Hashes by set, each looked up or computed once; also the reason why there are none."""

    skip: bool
    quiet: bool
    found: dict[tuple[str, int], Hashes] = field(default_factory=dict)
    failed: dict[tuple[str, int], MmoodError] = field(default_factory=dict)

    def hashes(self, index: SetIndex, keys: Keys) -> Hashes:
        name = index.hash, len(keys)
        if name in self.failed:
            raise self.failed[name]
        if name not in self.found:
            try:
                self.found[name] = self._new(index, keys)
            except MmoodError as error:
                self.failed[name] = error
                raise
        return self.found[name]

    def _new(self, index: SetIndex, keys: Keys) -> Hashes:
        kept = kept_hashes(index, keys, hashes_folder())
        if kept is not None:
            return kept
        _refuse_large(index)
        with progress_bar(f"hashing {index.name}", len(keys), self.quiet, transient=True) as bar:
            return image_hashes(index, keys, hashes_folder(), self.skip, bar.advance)


def _refuse_large(index: SetIndex) -> None:
    size = index.bytes_here()
    if size > MOST_BYTES:
        raise MmoodError(f"'{index.name}' has {size / 2**30:,.0f} GiB, which a test does not read for a comparison.")
