"""The scores of clean images and of stored attacked ones, by all ranks together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch

from mmood.attacks.attacked_sets import stored_blocks
from mmood.attacks.budget import Levels
from mmood.attacks.crafting import CleanSet, Task
from mmood.attacks.victim import Victim
from mmood.evaluation.store import ScoreStore, SetScores
from mmood.features.encoding import Ranks
from mmood.loading.decoding import decode_label
from mmood.shards.index import SetIndex


def clean_scores(victim: Victim, clean: CleanSet, ranks: Ranks, advance: Callable[[int], object]) -> SetScores:
    """Return the scores of the clean images of a set; every rank must call this."""
    own = range(ranks.rank, len(clean), ranks.world)
    return _gathered(victim, clean, ((number, clean.block(number).levels) for number in own), advance)


def attacked_scores_of(
    victim: Victim, task: Task, index: SetIndex, ranks: Ranks, advance: Callable[[int], object]
) -> SetScores:
    """Return the scores of the stored images of a task, by the keys of the clean ones; every rank must call this."""
    blocks = stored_blocks(index, task)
    own = ((number, levels) for number, levels in blocks if number % ranks.world == ranks.rank)
    return _gathered(victim, task.clean, own, advance)


def _gathered(
    victim: Victim, clean: CleanSet, blocks: Iterable[tuple[int, Levels]], advance: Callable[[int], object]
) -> SetScores:
    entry = clean.entry
    store = ScoreStore(entry.name, victim.module.score_names).to(victim.module.device)
    for number, levels in blocks:
        keys = clean.keys(number)
        label = torch.tensor(list(_labels(clean, number)))
        scored = victim.scored(levels, torch.from_numpy(keys.copy()), label)
        store.update(scored.key, scored.label, scored.predicted, scored.scores)
        advance(len(keys))
    found: SetScores = store.gathered(entry.keys)
    return found


def _labels(clean: CleanSet, number: int) -> Iterator[int]:
    """Yield the labels of a block without decoding its images."""
    for sample in clean.entry.index.read(clean.keys(number), skip=False):
        classes = clean.decoder.classes
        yield -1 if classes is None else decode_label(sample, classes)  # type: ignore[arg-type]
