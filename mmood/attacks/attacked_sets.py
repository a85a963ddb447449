"""Attacked images as sets: lossless shards that every command can read, and their budgets checked where they lie."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import final

import numpy as np
import torch
from torch import Tensor

from mmood.attacks.budget import Budget, Levels
from mmood.attacks.crafting import Block, Task
from mmood.attacks.victim import picture_of
from mmood.errors import MmoodError
from mmood.loading.decoding import decode_image
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
        self._read: tuple[int, Block, Levels] | None = None

    def __len__(self) -> int:
        return self.task.clean.entry.count

    def __getitem__(self, position: int) -> InputSample:
        number, row = divmod(position, self.task.clean.size)
        if self._read is None or self._read[0] != number:
            self._read = (number, self.task.clean.block(number), self.task.read(number))
        _, block, levels = self._read
        buffer = io.BytesIO()
        picture_of(levels[row]).save(buffer, "PNG")
        label = int(block.label[row])
        name = self.class_names[label] if self.class_names else ""
        place = f"{self.task.clean.entry.name}/{int(block.key[row])}"
        return InputSample(buffer.getvalue(), label if label >= 0 else None, name, place)


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


def stored_blocks(index: SetIndex, task: Task) -> Iterator[tuple[int, Levels]]:
    """Yield (number, images) of each block of a packed set, decoded from its shards."""
    images: list[Tensor] = []
    number = 0
    for sample in index.read(index.keys(), skip=False):
        assert not isinstance(sample, Skipped), "nothing is skipped"
        images.append(torch.from_numpy(np.array(decode_image(sample, "ignore"))).permute(2, 0, 1))
        if len(images) == len(task.clean.keys(number)):
            yield number, torch.stack(images).to(torch.int16)
            images, number = [], number + 1


def check_budget(index: SetIndex, task: Task, budget: Budget, advance: Callable[[int], object]) -> None:
    """Raise MmoodError unless every stored image lies within its budget of the clean one, in exact arithmetic."""
    for number, levels in stored_blocks(index, task):
        block = task.clean.block(number)
        inside = budget.holds(levels, block.levels)
        if not inside.all():
            key = int(block.key[int(inside.int().argmin())])
            raise MmoodError(
                f"The attacked image of key {key} in {index.place} is further than {budget.eps} ({budget.norm}) from "
                "the clean one; the set was changed, or this is a fault of mmood. Delete the set and attack again."
            )
        advance(len(levels))
