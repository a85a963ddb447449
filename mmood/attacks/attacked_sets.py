"""Attacked images as sets: lossless shards that every command can read, and their budgets checked where they lie."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import final

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from mmood.attacks.budget import Budget, Levels
from mmood.attacks.crafting import Block, Task
from mmood.attacks.victim import picture_of
from mmood.errors import MmoodError
from mmood.loading.decoding import decode_image, decode_label
from mmood.loading.loader import OOD_LABEL
from mmood.shards.index import SetIndex
from mmood.shards.inputs import InputSample
from mmood.shards.packing import PackSettings, pack
from mmood.shards.reading import Skipped
from mmood.shards.shard_index import INDEX_FILE, ShardIndex, load_index

SHARD = 2000
"""Images of a shard."""


@final
class CraftedImages:
    """The blocks of a task as input of `pack`: each image as a PNG file.

    Args:
        task: whose blocks are all there.
        names: of the ID classes, for an ID set; OoD images have no labels.
    """

    def __init__(self, task: Task, names: tuple[str, ...]) -> None:
        self.task = task
        self.class_names: Sequence[str] = names if task.clean.entry.group == "id" else ()
        folders = task.clean.entry.index.class_folders
        self.class_folders: Sequence[str] = folders if len(folders) == len(self.class_names) else ()
        found = hashlib.sha256()
        for number in range(len(task.clean)):
            found.update(task.path(number).read_bytes())
        self.fingerprint = found.hexdigest()
        self._blocks: Iterator[tuple[int, Block]] = iter(())
        self._read: tuple[int, Block, Levels] | None = None

    def __len__(self) -> int:
        return self.task.clean.entry.count

    def __getitem__(self, position: int) -> InputSample:
        block, levels = self._at(position // self.task.clean.size)
        row = position % self.task.clean.size
        buffer = io.BytesIO()
        picture_of(levels[row]).save(buffer, "PNG")
        label = int(block.label[row])
        name = self.class_names[label] if self.class_names else ""
        place = f"{self.task.clean.entry.name}/{int(block.key[row])}"
        return InputSample(buffer.getvalue(), label if label >= 0 else None, name, place)

    def _at(self, number: int) -> tuple[Block, Levels]:
        """Return a block, clean and attacked; positions ascend, so the clean set is read once."""
        if self._read is None or self._read[0] > number:
            self._blocks = self.task.clean.blocks(range(number, len(self.task.clean)))
        while self._read is None or self._read[0] != number:
            found, block = next(self._blocks)
            self._read = (found, block, self.task.read(found))
        return self._read[1:]


def packed_set(task: Task, folder: Path, names: tuple[str, ...], source: str) -> SetIndex:
    """Return the attacked images of a task as a set in a folder, packed unless it is complete there.

    Args:
        task: whose blocks are all there, or whose set is.
        folder: of the set.
        names: of the ID classes.
        source: where the images come from, in words.
    """
    if not (folder / INDEX_FILE).exists():
        settings = PackSettings(shard_size=SHARD, source=source)
        return pack(CraftedImages(task, names), folder, settings, lambda amount: None)
    return stored_set(folder)


def stored_set(folder: Path) -> ShardIndex:
    """Return the index of a set that was packed."""
    return load_index(str(folder.parent), folder.name)


def stored_blocks(index: SetIndex, task: Task) -> Iterator[tuple[int, Int64[Tensor, " batch"], Levels]]:
    """Yield (number, labels, images) of each block of a packed set, decoded from its shards."""
    samples, classes = index.read(index.keys(), skip=False), task.clean.decoder.classes
    for number in range(len(task.clean)):
        images, labels = [], []
        for sample in islice(samples, len(task.clean.keys(number))):
            assert not isinstance(sample, Skipped), "nothing is skipped"
            images.append(torch.from_numpy(np.array(decode_image(sample, "ignore"))).permute(2, 0, 1))
            labels.append(OOD_LABEL if classes is None else decode_label(sample, classes))
        yield number, torch.tensor(labels), torch.stack(images).to(torch.int16)


def check_budget(index: SetIndex, task: Task, budget: Budget, advance: Callable[[int], object]) -> None:
    """Raise MmoodError unless every stored image lies within its budget of the clean one, in exact arithmetic."""
    clean = task.clean.blocks(range(len(task.clean)))
    for (_, block), (_, _, levels) in zip(clean, stored_blocks(index, task), strict=True):
        inside = budget.holds(levels, block.levels)
        if not inside.all():
            key = int(block.key[int(inside.int().argmin())])
            raise MmoodError(
                f"The attacked image of key {key} in {index.place} is further than {budget.eps} ({budget.norm}) from "
                "the clean one; the set was changed, or this is a fault of mmood. Delete the set and attack again."
            )
        advance(len(levels))
