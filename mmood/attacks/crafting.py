"""Making attacked images: blocks of a set, each a file; whatever the number of ranks, they are the same bytes.

A batch consists of the images of one block, which depends on their positions alone. So neither a kill nor another rank
changes which images pass the tower together, and with them the last digits of a gradient.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from mmood.attacks import draws
from mmood.attacks.budget import Budget, Images, Levels, levels_of
from mmood.attacks.manipulation import manipulated
from mmood.attacks.search import Found, Objective, apgd, best_of, clean, fgsm, pgd
from mmood.attacks.settings import AttackSettings
from mmood.attacks.victim import Victim, pixels_of
from mmood.data.datamodule import EvaluationSet
from mmood.encoders import ImageTransform
from mmood.errors import MmoodError
from mmood.files import write_atomically
from mmood.files.arrays import read_array
from mmood.images.rgb import Exif
from mmood.loading.loader import Decoder
from mmood.shards.hashes import digest
from mmood.shards.index import Keys
from mmood.shards.reading import RawSample, Skipped

MOST = 64
"""Images of a block, at most: a killed run loses the blocks under way."""


@dataclass(frozen=True)
class Block:
    """The images of one batch, clean.

    Attributes:
        key: (B,) in their set.
        label: (B,) classes, -1 for OoD.
        levels: (B, 3, H, W) of 8 bits, resized and cropped.
    """

    key: Int64[Tensor, " batch"]
    label: Int64[Tensor, " batch"]
    levels: Levels


@dataclass(frozen=True)
class CleanSet:
    """A set whose images are attacked, or tested beside those that are.

    Attributes:
        entry: the set, its keys those that are used.
        size: images of a block.
        decoder: to pixels in [0, 1].
    """

    entry: EvaluationSet
    size: int
    decoder: Decoder

    @classmethod
    def of(cls, entry: EvaluationSet, size: int, transform: ImageTransform, classes: int, exif: Exif) -> CleanSet:
        """Return a set; `classes` is the number of ID classes."""
        return cls(entry, size, Decoder(transform, classes if entry.group == "id" else None, exif))

    def __len__(self) -> int:
        """Return the number of blocks."""
        return -(-self.entry.count // self.size)

    def keys(self, number: int) -> Keys:
        """Return the keys of a block."""
        return self.entry.keys[number * self.size : (number + 1) * self.size]

    def blocks(self, numbers: Iterable[int]) -> Iterator[tuple[int, Block]]:
        """Yield number and content of some blocks, ascending, in one pass over the set.

        Raises:
            MmoodError: an image cannot be read.
        """
        wanted = list(numbers)
        if not wanted:
            return
        keys = np.concatenate([self.keys(number) for number in wanted])
        samples = self.entry.index.read(keys, skip=False)
        for number in wanted:
            yield number, self._block(number, list(islice(samples, len(self.keys(number)))))

    def _block(self, number: int, samples: Sequence[RawSample | Skipped]) -> Block:
        decoded = [self.decoder(sample) for sample in samples if not isinstance(sample, Skipped)]
        return Block(
            torch.from_numpy(self.keys(number).copy()),
            torch.tensor([one.label for one in decoded]),
            levels_of(torch.stack([one.image for one in decoded])),
        )


@dataclass(frozen=True)
class Targets:
    """What manipulated images are moved to.

    Attributes:
        features: (N, F) of the ID training images, on the CPU; it may be on disk.
        key: (N,) of these images.
        seed: of the draw.
    """

    features: Float[Tensor, "images features"]
    key: Int64[Tensor, " images"]
    seed: int

    def rows(self, keys: list[int]) -> Int64[Tensor, " batch"]:
        """Return which training image each image is moved to."""
        return draws.targets(keys, self.seed, len(self.key))


@dataclass(frozen=True, eq=False)
class Task:
    """A set under one attack.

    Attributes:
        folder: of its blocks.
        clean: the set.
        score: whose objective is moved; None for a manipulation.
        eps: the radius as it is written; None for a manipulation.
    """

    folder: Path
    clean: CleanSet
    score: str | None
    eps: str | None

    def path(self, number: int) -> Path:
        """Return the file of a block."""
        return self.folder / f"{number:06d}.npy"

    def read(self, number: int) -> Levels:
        """Return a block of attacked images; MmoodError if its file is not one."""
        path = self.path(number)
        found = read_array(path, f"The block {path}")
        if found.dtype != np.uint8 or found.ndim != 4 or len(found) != len(self.clean.keys(number)):
            raise MmoodError(f"The block {path} does not hold the images of its set; delete it and start again.")
        return torch.from_numpy(np.array(found)).to(torch.int16)


@dataclass(frozen=True)
class Crafting:
    """An attack on one detector.

    Attributes:
        victim: the detector.
        settings: the attack.
        targets: of a manipulation.
    """

    victim: Victim
    settings: AttackSettings
    targets: Targets | None = None

    def craft(self, task: Task, number: int, block: Block) -> None:
        """Write a block of a task."""
        buffer = io.BytesIO()
        np.save(buffer, self.attacked(block, task).to(torch.uint8).numpy(), allow_pickle=False)
        write_atomically(task.path(number), buffer.getvalue())

    def attacked(self, block: Block, task: Task) -> Levels:
        """Return the images of a block under a task, in 8 bits and within the budget."""
        pixels = pixels_of(block.levels).to(self.victim.module.device)
        if task.score is None or task.eps is None:
            return self._manipulated(block, pixels)
        budget = self.settings.budgets()[task.eps]
        objective = self.victim.objective(task.score, -1 if task.clean.entry.group == "id" else 1)
        if self.settings.method == "noise":
            return budget.quantised(self._start(block, pixels, budget, 0).cpu(), block.levels)
        before = clean(objective, pixels)
        found = before.to_beat(best_of(list(self._searches(objective, block, pixels, budget))))
        levels = budget.quantised(found.images.cpu(), block.levels)
        # Rounding may have cost more than the search has won.
        after = clean(objective, pixels_of(levels).to(pixels))
        worse = (after.values < before.values).cpu()[:, None, None, None]
        return torch.where(worse, block.levels, levels)

    def _searches(self, objective: Objective, block: Block, pixels: Images, budget: Budget) -> Iterator[Found]:
        if self.settings.method == "fgsm":
            yield fgsm(objective, pixels, budget)
            return
        search = pgd if self.settings.method == "pgd" else apgd
        for restart in range(self.settings.restarts):
            start = self._start(block, pixels, budget, restart)
            yield search(objective, pixels, start, budget, self.settings.steps)

    def _start(self, block: Block, pixels: Images, budget: Budget, restart: int) -> Images:
        noise = draws.noise(block.key.tolist(), self.settings.seed, restart, pixels.shape[1:], budget.norm)
        return budget.start(pixels, noise.to(pixels))

    def _manipulated(self, block: Block, pixels: Images) -> Levels:
        assert self.targets is not None, "only a manipulation has no score"
        keys = block.key.tolist()
        noise = draws.noise(keys, self.settings.seed, 0, pixels.shape[1:], "l2").to(pixels)
        wanted = self.targets.features[self.targets.rows(keys)].to(pixels)
        moved = manipulated(self.victim.features, pixels, wanted, noise, self.settings.smoothness, self.settings.steps)
        return levels_of(moved.cpu())


def chosen_keys(keys: Keys, limit: int | None) -> Keys:
    """Return at most `limit` keys, ascending: those with the lowest hashes, so a larger limit adds to a smaller one."""
    if limit is None or limit >= len(keys):
        return keys
    hashes = np.fromiter((digest(key) for key in keys.tolist()), dtype=np.uint64, count=len(keys))
    chosen: Keys = keys[np.sort(np.argsort(hashes, kind="stable")[:limit])]
    return chosen


def share(tasks: Sequence[Task], rank: int, world: int) -> dict[Task, list[int]]:
    """Return the blocks that a rank makes of each task; over all ranks each comes once."""
    everything = [(task, number) for task in tasks for number in range(len(task.clean))]
    own: dict[Task, list[int]] = {}
    for task, number in everything[rank::world]:
        own.setdefault(task, []).append(number)
    return own


def craft_all(
    crafting: Crafting, own: Mapping[Task, Sequence[int]], advance: Callable[[int], object] = lambda amount: None
) -> None:
    """Write the blocks of a rank that are not there yet."""
    for task, numbers in own.items():
        missing = [number for number in numbers if not task.path(number).exists()]
        advance(sum(len(task.clean.keys(number)) for number in numbers if number not in missing))
        for number, block in task.clean.blocks(missing):
            crafting.craft(task, number, block)
            advance(len(block.key))
