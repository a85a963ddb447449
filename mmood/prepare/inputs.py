"""Input of packing: images chosen from archives, or taken from sets that are packed already."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import final

import numpy as np

from mmood.classes.imagenet import synsets
from mmood.classes.matching import folded, join
from mmood.classes.names import LISTS, load_class_names
from mmood.errors import MmoodError
from mmood.prepare.masks import Masked
from mmood.prepare.selection import Chosen
from mmood.recipes.recipe import Recipe
from mmood.shards.archives import AbstractArchive
from mmood.shards.index import SetIndex
from mmood.shards.inputs import InputSample, fingerprint
from mmood.shards.masks import MaskLabelList, check_mask
from mmood.shards.reading import RawSample, Skipped
from mmood.shards.table import SampleRow


@final
class ArchiveInput:
    """Images chosen from archives, packed byte for byte.

    Args:
        recipe: says where labels and class names come from.
        archives: what holds the images.
        chosen: the images, in the order of the set.
        masked: the same images with their masks; None for a set without masks.

    Raises:
        MmoodError: classes and labels do not fit each other.
    """

    def __init__(
        self,
        recipe: Recipe,
        archives: Sequence[AbstractArchive],
        chosen: Sequence[Chosen],
        masked: Sequence[Masked] | None = None,
    ) -> None:
        self._archives = archives
        self._chosen = chosen
        self._masked = masked
        self.class_names: Sequence[str] = ()
        self.class_folders: Sequence[str] = ()
        names = () if recipe.class_names is None else load_class_names(recipe.class_names)
        labels: list[int | None] = [None] * len(chosen)
        if recipe.labels == "folders":
            classes = join({image.folder for image in chosen}, names, recipe.name)
            self.class_names, self.class_folders = classes.names, classes.folders
            of_folder = {folder: label for label, folder in enumerate(classes.folders)}
            labels = [of_folder[image.folder] for image in chosen]
        elif recipe.labels == "list":
            self.class_names = names
            labels = [image.label for image in chosen]
            self._check(recipe, labels)
        self._labels = labels
        lines = [
            f"{archives[image.archive].name}\t{image.path}\t{image.member.path}\t{image.member.size}\t{label}"
            for image, label in zip(chosen, labels, strict=True)
        ]
        lines += [f"{archives[one.archive].name}\t{one.mask.path}\t{one.mask.size}" for one in masked or ()]
        self.fingerprint = fingerprint(lines)

    def __len__(self) -> int:
        return len(self._chosen)

    def __getitem__(self, position: int) -> InputSample:
        image, label = self._chosen[position], self._labels[position]
        name = self.class_names[label] if label is not None and self.class_names else image.folder
        content = self._archives[image.archive].read(image.member)
        return InputSample(content, label, name, image.path, self._mask(position, content))

    def _mask(self, position: int, content: bytes) -> bytes | None:
        """Return the mask of an image with these bytes; None for a set without masks."""
        if self._masked is None:
            return None
        image, archive, member = self._masked[position]
        mask = self._archives[archive].read(member)
        check_mask(mask, content, image.path, MaskLabelList())
        return mask

    def _check(self, recipe: Recipe, labels: Sequence[int | None]) -> None:
        """Raise MmoodError if a label is missing or too high, or an image lies in the folder of another class."""
        places = _places(self.class_names, (recipe.class_names or "").startswith("imagenet"))
        for image, label in zip(self._chosen, labels, strict=True):
            if label is None:
                raise MmoodError(f"The list of '{recipe.name}' has no label for '{image.path:.80}'.")
            if self.class_names and label >= len(self.class_names):
                raise MmoodError(
                    f"The list of '{recipe.name}' has label {label} for '{image.path:.80}', but there are "
                    f"{len(self.class_names)} class names."
                )
            known = places.get(folded(image.folder))
            if known is not None and known != label:
                raise MmoodError(
                    f"The list of '{recipe.name}' gives '{image.path:.80}' label {label} "
                    f"({self.class_names[label]}), but it lies in the folder {image.folder}, which is label {known}; "
                    "list and images do not belong together."
                )


def _places(names: Sequence[str], imagenet: bool) -> dict[str, int]:
    """Return the label of each folder's name that names exactly one class: class names, and synsets of ImageNet."""
    counts = Counter(map(folded, names))
    places = {folded(name): label for label, name in enumerate(names) if counts[folded(name)] == 1}
    return places | {synset: label for label, synset in enumerate(synsets() if imagenet else ())}


@final
class SetsInput:
    """Images of packed sets, one after the other, packed byte for byte.

    They are read front to back, so they should be asked for in order.

    Args:
        recipe: says which classes are kept, and whether labels are.
        indices: the sets.

    Raises:
        MmoodError: a set has no table, or no labels where the recipe wants them.
    """

    def __init__(self, recipe: Recipe, indices: Sequence[SetIndex]) -> None:
        self._indices = indices
        names = indices[0].class_names if recipe.class_names is None else load_class_names(recipe.class_names)
        kept: Sequence[int] = _subset(recipe.keep) if recipe.keep else range(len(names))
        relabelled = {label: position for position, label in enumerate(kept)}
        self._rows: list[tuple[int, SampleRow]] = []
        for number, index in enumerate(indices):
            for row in index.rows():
                if not recipe.keep or row.label in relabelled:
                    self._rows.append((number, row))
        self._labels: list[int | None] = [None] * len(self._rows)
        self.class_names: Sequence[str] = ()
        self.class_folders: Sequence[str] = ()
        if recipe.labels == "list":
            self._labels = [row.label if row.label is None else relabelled.get(row.label) for _, row in self._rows]
            if None in self._labels:
                raise MmoodError(
                    f"A set that '{recipe.name}' is made of has images without a label, or unnamed classes."
                )
            self.class_names = [names[label] for label in kept]
        self.fingerprint = fingerprint([*(index.hash for index in indices), recipe.keep, recipe.labels])
        self._next, self._stream = 0, self._read(0)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, position: int) -> InputSample:
        if position != self._next:
            self._stream = self._read(position)
        sample = next(self._stream)
        self._next = position + 1
        number, row = self._rows[position]
        if isinstance(sample, Skipped) or sample.image is None:
            raise MmoodError(f"Sample {row.key} of the set '{self._indices[number].name}' has no image.")
        return InputSample(sample.image, self._labels[position], row.name, row.file)

    def _read(self, start: int) -> Iterator[RawSample | Skipped]:
        for number, index in enumerate(self._indices):
            keys = [row.key for place, (owner, row) in enumerate(self._rows) if owner == number and place >= start]
            yield from index.read(np.asarray(keys, dtype=np.int64), skip=False)


def check_classes(recipe: Recipe) -> None:
    """Raise MmoodError if a recipe's class names or subset of classes cannot be had: before anything is fetched."""
    if recipe.class_names is not None and recipe.class_names not in LISTS:
        load_class_names(recipe.class_names)
    if recipe.keep:
        _subset(recipe.keep)


def _subset(name: str) -> Sequence[int]:
    # Imported here: the room of words imports torch, and most sets need none of it.
    from mmood.words.imagenet_x import class_subset

    return class_subset(name)
