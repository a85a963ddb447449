"""Trying every combination of a grid on recorded images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from mmood.scores.base import AbstractScore, Reference
from mmood.scores.calibrated import fit_temperature
from mmood.tuning.criteria import Sets, best, negative_log_likelihood, values
from mmood.tuning.grid import ScoreGrid
from mmood.tuning.recorder import Recorded

NLL = "nll"


@dataclass(frozen=True)
class Choice:
    """What was tried for one score, and chosen.

    Attributes:
        grid: with a fitted temperature as a value.
        criterion: what was compared; `nll` where the temperature alone was fitted.
        options: every combination.
        values: of the criterion, for each.
        chosen: number of the chosen one.
        images: images that were used of each set.
    """

    grid: ScoreGrid
    criterion: str
    options: list[dict[str, Any]]
    values: list[float]
    chosen: int
    images: dict[str, int]


class Tuner:
    """Chooses for each score the best combination of its grid.

    Args:
        grids: what to try.
        criterion: what to compare.
        learned: what scores of a checkpoint have learned, by their names; they do not learn it again.
    """

    def __init__(self, grids: list[ScoreGrid], criterion: str, learned: Mapping[str, Any]) -> None:
        self.grids = grids
        self.criterion = criterion
        self.learned = learned
        self.choices: list[Choice] = []

    def work(self, reference: Reference, recorded: dict[str, Recorded], device: torch.device) -> None:
        """Try every combination; the ID set is the first of the recorded ones."""
        (_, id_set), *others = recorded.items()
        sets = Sets(reference, id_set, dict(others), device)
        images = {name: len(one.label) for name, one in recorded.items()}
        self.choices = [self._choice(grid, sets, images) for grid in self.grids]

    def _choice(self, grid: ScoreGrid, sets: Sets, images: dict[str, int]) -> Choice:
        logits, labels = sets.id.logits(), sets.id.label
        if grid.fitted:
            grid = grid.with_temperature(fit_temperature(logits, labels))
        options = grid.options()
        if not grid.chooses():
            found = [negative_log_likelihood(logits, labels, options[0]["temperature"])]
            return Choice(grid, NLL, options, found, 0, images)
        found = values(self.criterion, [partial(self._built, grid, option) for option in options], sets)
        return Choice(grid, self.criterion, options, found, best(found, self.criterion), images)

    def _built(self, grid: ScoreGrid, option: Mapping[str, Any]) -> AbstractScore:
        score = grid.build(option)
        score.restore(self.learned.get(grid.name, {}))
        return score
