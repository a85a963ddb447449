"""What a tuning chose and on what, as it stands in the config that `mmood tune` writes and in later results."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from mmood.data.catalog import EvaluationSet
from mmood.errors import MmoodError
from mmood.modules.base import AbstractDetector
from mmood.settings import plain

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TunedOn:
    """A set that was tuned on.

    Attributes:
        set: its name.
        index_sha256: hash of its index.
        n: images of it that were used.
    """

    set: str
    index_sha256: str
    n: int


@dataclass(frozen=True)
class Tuned:
    """What was chosen for one score.

    Attributes:
        chosen: settings of the score.
        criterion: what was compared; `nll` for a fitted temperature.
        value: of the criterion, for the chosen settings.
        grid: every combination, with its value.
        id: the ID validation set.
        ood: the validation OoD sets; none for a criterion without them.
        compared_with: name and hash of the index of each test set that the sets share no image with.
        weights_sha256: of the encoder.
        notes: what was found about the sets besides.
    """

    chosen: dict[str, Any]
    criterion: str
    value: float
    grid: list[dict[str, Any]]
    id: TunedOn
    ood: list[TunedOn]
    compared_with: dict[str, str]
    weights_sha256: str
    notes: list[str] = field(default_factory=list)


class TunedSettings(Callback):
    """Holds a test to what `mmood tune` says of its scores.

    Args:
        scores: what was tuned, for each score; written by `mmood tune`, and repeated in the results.
    """

    def __init__(self, scores: dict[str, Tuned] | None = None) -> None:
        self.scores = scores or {}

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse a test whose scores are not as they were tuned, or that tests on what was tuned on.

        Raises:
            MmoodError: see above; names score, setting and set.
        """
        if not isinstance(pl_module, AbstractDetector):
            return
        sets = trainer.datamodule.evaluation_sets("test")  # type: ignore[attr-defined]
        for name, score in pl_module.named_scores():
            if name in self.scores:
                _check_settings(name, self.scores[name], score.settings())
                _check_sets(name, self.scores[name], sets)


def tuned_settings(
    trainer: Trainer, module: AbstractDetector, sets: Mapping[str, EvaluationSet]
) -> dict[str, object] | None:
    """Return what the scores of this run were tuned on, as plain data, and what the tuning did not know of the run.

    None if nothing was tuned.
    """
    callbacks = [callback for callback in trainer.callbacks if isinstance(callback, TunedSettings)]  # type: ignore[attr-defined]
    tuned = callbacks[0].scores if callbacks else {}
    present = {name: tuned[name] for name, _ in module.named_scores() if name in tuned}
    if not present:
        return None
    weights = module.encoder.identity()["weights_sha256"]
    return {
        name: {
            **asdict(record),
            "same_weights": record.weights_sha256 == weights,
            "not_compared": _not_compared(record, sets),
        }
        for name, record in present.items()
    }


def _check_settings(name: str, record: Tuned, settings: Mapping[str, object]) -> None:
    for key, value in record.chosen.items():
        found: object = settings
        for part in key.split("."):
            found = found.get(part) if isinstance(found, Mapping) else None
        if not _agrees(plain(value, f"`tuned.scores.{name}.chosen.{key}`"), found):
            raise MmoodError(
                f"`tuned.scores` says that {name}.{key} was tuned to {value}, but the run has {found}; "
                "set `tuned.scores: null` for settings of your own."
            )


def _agrees(chosen: object, found: object) -> bool:
    """Return whether a setting is as it was chosen; of grouped settings only those that were chosen count."""
    if isinstance(chosen, Mapping):
        return isinstance(found, Mapping) and all(
            name in found and _agrees(value, found[name]) for name, value in chosen.items()
        )
    return chosen == found


def _check_sets(name: str, record: Tuned, sets: Mapping[str, EvaluationSet]) -> None:
    tuned_on = {one.index_sha256: one.set for one in (record.id, *record.ood)}
    for entry in sets.values():
        if entry.index.hash in tuned_on:
            raise MmoodError(
                f"The test set '{entry.name}' was used to tune {name} (as '{tuned_on[entry.index.hash]}'); test on "
                "other images, or set `tuned.scores: null` and the settings by hand."
            )
    unknown = _not_compared(record, sets)
    if unknown:
        log.warning("%s was tuned without comparing the images with those of %s.", name, ", ".join(unknown))


def _not_compared(record: Tuned, sets: Mapping[str, EvaluationSet]) -> list[str]:
    known = set(record.compared_with.values())
    return [entry.name for entry in sets.values() if entry.index.hash not in known]
