"""Example images of the ID classes, as they are shown to a language model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mmood.chat import small_jpeg
from mmood.data.catalog import check_classes
from mmood.errors import ImageError, MmoodError
from mmood.output.printing import complain
from mmood.sets.finding import Classing, find_set
from mmood.settings import check_count
from mmood.shards.reading import RawSample

PER_CLASS = 2
SIDE = 224
MOST_SIDE = 2048


def example_images(
    place: str | Path, class_names: Sequence[str], per_class: int = PER_CLASS, side: int = SIDE
) -> dict[str, tuple[bytes, ...]]:
    """Return some images of each ID class, small and bare.

    They are spread evenly over the images of the class in the set, so the same set gives the same images. It must be a
    set of ID training images: with test images, the names would be adapted to the test.

    Args:
        place: a set with labels: shards, a folder or zip file with a folder of images for each class, or an image list.
        class_names: the ID classes in the order of the labels.
        per_class: images of each class, if there are as many.
        side: longer side of an image in pixels, at most.

    Raises:
        MmoodError: there is no such set, its classes are others, or an image cannot be used.
    """
    check_count("images_per_class", per_class)
    check_count("side", side, most=MOST_SIDE)
    index = find_set(".", str(place), classing=Classing(class_names, needed=True))
    if warning := check_classes(index, class_names):
        complain(warning)
    label = np.array([-1 if row.label is None else row.label for row in index.rows()])
    chosen = np.sort(np.concatenate([_spread(np.flatnonzero(label == c), per_class) for c in range(len(class_names))]))
    images: dict[str, list[bytes]] = {}
    for sample in index.read(chosen, skip=False):
        assert isinstance(sample, RawSample)  # nothing is skipped
        images.setdefault(class_names[label[sample.key]], []).append(_shown(sample, side))
    return {name: tuple(shown) for name, shown in images.items()}


def _spread(keys: np.ndarray, count: int) -> np.ndarray:
    """Return `count` of the keys at equal distances, or all if there are no more."""
    count = min(count, len(keys))
    return keys[np.arange(count) * len(keys) // max(count, 1)]


def _shown(sample: RawSample, side: int) -> bytes:
    try:
        return small_jpeg(sample.image or b"", side)
    except ImageError as error:
        raise MmoodError(f"The sample {sample.name} of {sample.shard} cannot be shown: {error}.") from error
