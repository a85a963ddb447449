"""The ID classes of a run: those of the settings, or as the ID set calls them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import final

from mmood.classes.counts import lacking
from mmood.classes.imagenet import is_synset
from mmood.classes.names import load_class_names
from mmood.data.catalog import Catalog
from mmood.errors import MmoodError
from mmood.shards.index import Keys, MissingSetError, SetIndex


@final
class ClassNames:
    """The names of the ID classes.

    Args:
        setting: `data.class_names`; None if it is unset.
        catalog: finds the ID sets.
        id_sets: what the settings call the ID sets; the first that is there and names its classes counts.
        benchmark: `data.benchmark` that `setting` comes from; None if it is the user's own.
    """

    def __init__(
        self,
        setting: str | list[str] | None,
        catalog: Catalog,
        id_sets: Sequence[str],
        benchmark: str | list[str] | None = None,
    ) -> None:
        self.setting = setting
        self.benchmark = benchmark
        self.catalog = catalog
        self.id_sets = id_sets

    def find(self) -> tuple[str, ...] | None:
        """Return the names in the order of the labels, None where neither settings nor ID set name them.

        Raises:
            MmoodError: the list of the settings cannot be read, or the ID set names its classes by synsets, which say
                nothing to a text encoder.
        """
        if self.setting is not None:
            return load_class_names(self.setting)
        for name in self.id_sets:
            try:
                index = self.catalog.index(name)
            except MissingSetError:
                continue
            if index.class_names:
                _refuse_synsets(index)
                return index.known_names or None
        return None

    def needed(self) -> str | list[str]:
        """Return the setting, or else the names that were found; MmoodError if there are none."""
        if self.setting is not None:
            return self.setting
        names = self.find()
        if names is None:
            raise MmoodError(
                "data.class_names is not set; name a list such as imagenet-openai, "
                "or a text file with one class name a line."
            )
        return list(names)

    def note(self) -> str:
        """Return a sentence with the names where the settings do not give them; "" where they do."""
        names = None if self.setting is not None else self.find()
        return "" if names is None else _unset("the ID set", names)

    def of_benchmark(self) -> str:
        """Return a sentence with the names where a benchmark gives them: who predicts photos may have other classes."""
        if self.setting is None or self.benchmark is None:
            return ""
        return _unset(f"the benchmark '{self.benchmark}'", self.find() or ())


def _unset(source: str, names: Sequence[str]) -> str:
    more = f" and {len(names) - 3:,} more" if len(names) > 3 else ""
    return f"`data.class_names` is not set; the classes are those of {source}: {', '.join(names[:3])}{more}."


def classes_without_images(train: SetIndex, keys: Keys, class_names: Sequence[str], shots: int | None) -> list[str]:
    """Return what the user should know of classes without an image to train on.

    Args:
        train: the training set.
        keys: which of its images are trained on.
        class_names: in the order of the labels.
        shots: images of each class that are drawn; None for all.
    """
    try:
        labels = [row.label for row in train.rows()]
    except MmoodError:  # a set that mmood did not pack may have no table, but its shards have the labels
        return []
    counts = Counter(labels[key] for key in keys)
    return lacking([counts[label] for label in range(len(class_names))], class_names, shots)


def _refuse_synsets(index: SetIndex) -> None:
    synset = next((name for name in index.class_names if is_synset(name)), None)
    if synset is not None:
        raise MmoodError(
            f"`data.class_names` is not set, and the set '{index.name}' calls a class '{synset}', which no text "
            "encoder knows; name a list such as imagenet-openai, or a text file with one class name a line."
        )
