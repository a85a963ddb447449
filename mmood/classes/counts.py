"""How many training images each class has, in words where they are too few."""

from __future__ import annotations

from collections.abc import Sequence


def lacking(counts: Sequence[int], class_names: Sequence[str], shots: int | None = None) -> list[str]:
    """Return sentences on the classes that have no image to train on, and those with fewer than `shots`.

    >>> for sentence in lacking([2, 1, 0], ["cat", "dog", "owl"], 2):
    ...     print(sentence)
    1 of 3 classes has no image to train on, such as owl.
    1 of 3 classes has fewer than 2 images, such as dog (1).

    Args:
        counts: training images of each class.
        class_names: the ID classes, in the order of their labels.
        shots: images of each class that are wanted; None for all.
    """
    empty = [name for name, count in zip(class_names, counts, strict=True) if count == 0]
    few = [f"{name} ({count})" for name, count in zip(class_names, counts, strict=True) if 0 < count < (shots or 0)]
    said = {"no image to train on": empty, f"fewer than {shots} images": few}
    return [
        f"{len(names)} of {len(class_names)} classes {'has' if len(names) == 1 else 'have'} {what}, such as {names[0]}."
        for what, names in said.items()
        if names
    ]
