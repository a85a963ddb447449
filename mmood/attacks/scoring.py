"""The scores of clean images and of stored attacked ones, by all ranks together."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from jaxtyping import Int64
from torch import Tensor

from mmood.attacks.attacked_sets import stored_blocks
from mmood.attacks.budget import Levels
from mmood.attacks.crafting import CleanSet, Task
from mmood.attacks.victim import Victim
from mmood.evaluation.store import ScoreStore, SetScores
from mmood.features.encoding import Ranks
from mmood.shards.index import SetIndex

Labelled = tuple[int, Int64[Tensor, " batch"], Levels]
"""Number of a block, labels and images."""


def clean_scores(victim: Victim, clean: CleanSet, ranks: Ranks, advance: Callable[[int], object]) -> SetScores:
    """Return the scores of the clean images of a set; every rank must call this."""
    blocks = clean.blocks(range(ranks.rank, len(clean), ranks.world))
    return _gathered(victim, clean, ((number, block.label, block.levels) for number, block in blocks), advance)


def attacked_scores_of(
    victim: Victim, task: Task, index: SetIndex, ranks: Ranks, advance: Callable[[int], object]
) -> SetScores:
    """Return the scores of the stored images of a task, by the keys of the clean ones; every rank must call this."""
    own = (block for block in stored_blocks(index, task) if block[0] % ranks.world == ranks.rank)
    return _gathered(victim, task.clean, own, advance)


def _gathered(
    victim: Victim, clean: CleanSet, blocks: Iterable[Labelled], advance: Callable[[int], object]
) -> SetScores:
    entry = clean.entry
    store = ScoreStore(entry.name, victim.module.score_names).to(victim.module.device)
    for number, label, levels in blocks:
        scored = victim.scored(levels, torch.from_numpy(clean.keys(number).copy()), label)
        store.update(scored.key, scored.label, scored.predicted, scored.scores)
        advance(len(label))
    found: SetScores = store.gathered(entry.keys)
    return found
