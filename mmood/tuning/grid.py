"""The grid of a tuning: which settings of which scores are tried, built before any work begins."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from itertools import product
from typing import Any

from jsonargparse import ArgumentParser

from mmood.configuration.config_errors import own_error, sentence
from mmood.errors import MmoodError, unknown
from mmood.files import parse_yaml
from mmood.scores.base import AbstractScore
from mmood.scores.test_time.base import AbstractStreamScore

FITTED = "fitted"
"""In the place of the values of `temperature`: the one that fits the ID validation set best (arXiv 1706.04599)."""

Values = dict[str, list[Any]]


@dataclass(frozen=True)
class ScoreGrid:
    """What is tried for one score.

    Attributes:
        name: of the score.
        config: its class and settings in the config, as plain data.
        values: setting -> values; dots lead into grouped settings.
        fitted: fit the temperature first.
    """

    name: str
    config: dict[str, Any]
    values: Values
    fitted: bool

    def options(self) -> list[dict[str, Any]]:
        """Return every combination, the first setting outermost."""
        return [dict(zip(self.values, values, strict=True)) for values in product(*self.values.values())]

    def chooses(self) -> bool:
        """Return whether a criterion decides: not for a fitted temperature alone."""
        return not self.fitted or len(self.options()) > 1

    def first(self) -> dict[str, Any]:
        """Return a combination that can be built before a temperature is fitted."""
        return (self.with_temperature(1.0) if self.fitted else self).options()[0]

    def with_temperature(self, temperature: float) -> ScoreGrid:
        """Return the grid with the fitted temperature as one of its values."""
        return ScoreGrid(self.name, self.config, {"temperature": [temperature], **self.values}, self.fitted)

    def configured(self, option: Mapping[str, Any]) -> dict[str, Any]:
        """Return the score's config with the settings of one combination."""
        config = deepcopy(self.config)
        config["init_args"] = config.get("init_args") or {}
        for key, value in option.items():
            settings = config["init_args"]
            *groups, last = key.split(".")
            for group in groups:
                settings = settings.setdefault(group, {})
            settings[last] = value
        return config

    def build(self, option: Mapping[str, Any]) -> AbstractScore:
        """Return the score with the settings of one combination.

        Raises:
            MmoodError: a setting or a value is none of this score's.
        """
        return build_score(self.configured(option), f"--grid {self.name}")


def parse_grid(text: str, scores: Mapping[str, dict[str, Any]]) -> list[ScoreGrid]:
    """Return the grids that a text such as `{knn: {k: [1, 5]}, msp: {temperature: fitted}}` means, each tried out.

    Args:
        text: YAML, score -> setting -> list of values.
        scores: the config of each score, as plain data.

    Raises:
        MmoodError: the text is not of that form, or a score cannot have one of the settings.
    """
    document = parse_yaml(text, "--grid")
    if not isinstance(document, dict) or not document or not all(isinstance(of, dict) for of in document.values()):
        raise MmoodError(f"--grid is {text!r:.80}; write score -> setting -> values, such as '{{knn: {{k: [1, 5]}}}}'.")
    grids = []
    for name, settings in document.items():
        if name not in scores:
            raise unknown("score in model.scores", str(name), scores)
        grids.append(_score_grid(name, scores[name], settings))
    return grids


def build_score(config: Mapping[str, Any], where: str) -> AbstractScore:
    """Return the score that plain data describe, or raise MmoodError; `where` begins its sentence."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(AbstractScore, "score")
    try:
        score = parser.instantiate_classes(parser.parse_object({"score": dict(config)})).score
    except (argparse.ArgumentError, TypeError, ValueError) as error:
        own = own_error(error)
        raise MmoodError(f"{where}: {own or sentence(error)}") from error
    assert isinstance(score, AbstractScore)
    return score


def _score_grid(name: str, config: dict[str, Any], settings: dict[Any, Any]) -> ScoreGrid:
    values: Values = {}
    fitted = False
    for key, given in settings.items():
        if key == "temperature" and given == FITTED:
            fitted = True
        elif not isinstance(key, str) or not isinstance(given, list) or not given:
            raise MmoodError(f"--grid {name}.{key} is {given!r}; give a list of values, such as [1, 5].")
        else:
            values[key] = given
    grid = ScoreGrid(name, config, values, fitted)
    tried = grid.with_temperature(1.0) if fitted else grid
    for option in tried.options():
        score = tried.build(option)
        if isinstance(score, AbstractStreamScore):
            raise MmoodError(f"--grid has {name}, which learns from the stream that it scores and cannot be tuned.")
        if fitted and score.needs != {"logits"}:
            raise MmoodError(
                f"--grid {name}.temperature is fitted, but {name} does not read only the logits; list values."
            )
    return grid
