"""What must not be tuned on: test sets, their images, and the classes of their OoD images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from mmood.data.catalog import ID_GROUP, ID_GROUPS, EvaluationSet
from mmood.data.datamodule import OoDDataModule
from mmood.errors import MmoodError
from mmood.shards.hashes import are_copies
from mmood.shards.index import Hashes
from mmood.shards.table import SampleRow

_ADVICE = "choose settings on images that are in no test set, or the test results will be too good."


@dataclass(frozen=True)
class TuningSets:
    """The sets of a tuning.

    Attributes:
        id: the ID validation set.
        ood: the validation OoD sets.
        tests: the test sets of the same settings, ID and OoD.
        train: hash of the index of the ID training set, if its settings name one and all of it is trained on.
    """

    id: EvaluationSet
    ood: tuple[EvaluationSet, ...]
    tests: tuple[EvaluationSet, ...]
    train: str | None

    def pairs(self) -> Iterator[tuple[str, EvaluationSet, EvaluationSet]]:
        """Yield (name of the setting, validation set, test set) for all of them."""
        for test in self.tests:
            yield "data.val.id", self.id, test
            for ood in self.ood:
                yield "data.val.ood", ood, test

    def ood_pairs(self) -> Iterator[tuple[EvaluationSet, EvaluationSet]]:
        """Yield (validation OoD set, OoD test set) for all of them."""
        return ((val, test) for _, val, test in self.pairs() if val is not self.id and test.group != ID_GROUP)


def tuning_sets(data: OoDDataModule, needs_ood: bool) -> TuningSets:
    """Return the sets that the settings name, checked as a test or a training would check them.

    Args:
        data: the settings.
        needs_ood: whether the criterion compares with OoD images.

    Raises:
        MmoodError: `data.val.id` is not set, or `data.val.ood` where it is needed; a set is missing or does not fit.
    """
    if data.val.id is None:
        raise MmoodError(
            "`data.val.id` is not set; name an ID validation set or a fraction of `data.train` to tune on."
        )
    if needs_ood and not data.val.ood:
        raise MmoodError(
            "`data.val.ood` is not set; name a validation OoD set, such as {val: [NAME]}, or tune without one with "
            "--criterion held_out_classes."
        )
    data.check("validate")
    entries = data.evaluation_sets("validate")
    if data.plan.id is not None:
        data.check("test")
    # OoD test sets count also where the settings name no ID test set.
    tests = data.catalog.evaluation_sets(data.tested.members())
    train = None if data.train is None or isinstance(data.val.id, float) else data.catalog.index(data.train).hash
    id_set = next(entry for entry in entries.values() if entry.group == ID_GROUP)
    ood = tuple(entry for entry in entries.values() if entry.group not in ID_GROUPS)
    return TuningSets(id_set, ood, tuple(tests.values()), train)


def refuse_test_sets(sets: TuningSets) -> None:
    """Raise MmoodError if a validation set is a test set, by name or by content, or is the training set."""
    for setting, val, test in sets.pairs():
        if val.index.name == test.index.name:
            raise MmoodError(f"`{setting}` names '{val.index.name}', which is a test set of the same run; {_ADVICE}")
        if val.index.hash == test.index.hash:
            raise MmoodError(
                f"`{setting}` names '{val.index.name}', which has the same shards as the test set '{test.index.name}'; "
                f"{_ADVICE}"
            )
    if sets.id.index.hash == sets.train:
        raise MmoodError(
            f"`data.val.id` names '{sets.id.index.name}', which is the training set; a score has already learned from "
            "its images, so they cannot validate it; name another set, or a fraction of `data.train` to hold out."
        )


def refuse_shared_classes(sets: TuningSets) -> list[str]:
    """Raise MmoodError if a validation OoD set has an original class of an OoD test set.

    Returns:
        What was found and is no reason to refuse, in sentences: a shared source, classes that are not known.
    """
    notes, tables = [], {entry.name: _rows(entry) for pair in sets.ood_pairs() for entry in pair}
    classes = {name: {row.name.casefold(): row.name for row in rows if row.name} for name, rows in tables.items()}
    for val, test in sets.ood_pairs():
        shared = sorted(classes[val.name].keys() & classes[test.name].keys())
        if shared:
            named = ", ".join(f"'{classes[val.name][name]}'" for name in shared[:3])
            more = f" and {len(shared) - 3} more" if len(shared) > 3 else ""
            raise MmoodError(
                f"`data.val.ood` names '{val.name}', which has classes of the test set '{test.name}': {named}{more}; "
                f"{_ADVICE}"
            )
        common = _sources(val, tables[val.name]) & _sources(test, tables[test.name])
        if common:
            notes.append(f"'{val.name}' and the test set '{test.name}' share a source: {', '.join(sorted(common))}.")
    unknown = sorted(name for name, found in classes.items() if not found)
    if unknown:
        named = ", ".join(f"'{name}'" for name in unknown)
        notes.append(f"The original classes of {named} are unknown, so only images were compared.")
    return notes


def refuse_shared_images(sets: TuningSets, hashes: Callable[[EvaluationSet], Hashes]) -> None:
    """Raise MmoodError if a validation set and a test set hold the same image.

    Args:
        sets: the sets.
        hashes: from a set to the hash of each of its images (`image_hashes`).
    """
    for setting, val, test in sets.pairs():
        of_val, of_test = hashes(val), hashes(test)
        shared = np.unique(of_val[are_copies(of_val, of_test)])
        if len(shared):
            keys = [int(entry.keys[of == shared[0]][0]) for entry, of in ((val, of_val), (test, of_test))]
            count = f"{len(shared)} images" if len(shared) > 1 else "an image"
            raise MmoodError(
                f"`{setting}` names '{val.index.name}', which shares {count} with the test set '{test.index.name}' "
                f"(key {keys[0]} there is key {keys[1]} here); {_ADVICE}"
            )


def _rows(entry: EvaluationSet) -> list[SampleRow]:
    rows = entry.index.rows()
    return [rows[key] for key in entry.keys.tolist()]


def _sources(entry: EvaluationSet, rows: list[SampleRow]) -> set[str]:
    return {entry.index.source, *(row.source for row in rows)} - {""}
