"""The config that `mmood tune` writes: all scores with the chosen settings, and what they were tuned on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from mmood.data.catalog import EvaluationSet
from mmood.evaluation.tuned import Tuned, TunedOn
from mmood.files import write_atomically
from mmood.tuning.criteria import HELD_OUT_CLASSES
from mmood.tuning.leaks import TuningSets
from mmood.tuning.tuner import NLL, Choice

_HEADER = """\
# Settings of scores, chosen by `mmood tune`. Use it after the config that was tuned. A dict of scores is replaced as a
# whole, so all scores of that config are here. `tuned` records what was tuned on which data; the results repeat it.
"""


def write_config(
    path: Path, config: dict[str, Any], choices: Iterable[Choice], sets: TuningSets, weights: str, notes: list[str]
) -> None:
    """Write the chosen settings.

    Args:
        path: file to write.
        config: the whole config that was tuned, as plain data; what it says of earlier tunings is kept.
        choices: what was chosen.
        sets: what it was chosen on.
        weights: sha256 of the encoder.
        notes: what was found about the sets.
    """
    scores = dict(config["model"]["init_args"]["scores"])
    tuned = dict(config["tuned"]["scores"] or {})
    for choice in choices:
        name = choice.grid.name
        scores[name] = choice.grid.configured(choice.options[choice.chosen])
        tuned[name] = asdict(_record(choice, sets, weights, notes))
    document = {
        "model": {"class_path": config["model"]["class_path"], "init_args": {"scores": scores}},
        "tuned": {"scores": tuned},
    }
    text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120)
    write_atomically(path, (_HEADER + text).encode())


def _record(choice: Choice, sets: TuningSets, weights: str, notes: list[str]) -> Tuned:
    used = () if choice.criterion in (HELD_OUT_CLASSES, NLL) else sets.ood
    rows = zip(choice.options, choice.values, strict=True)
    return Tuned(
        chosen=choice.options[choice.chosen],
        criterion=choice.criterion,
        value=choice.values[choice.chosen],
        grid=[{**option, choice.criterion: value} for option, value in rows],
        id=_tuned_on(sets.id, choice),
        ood=[_tuned_on(entry, choice) for entry in used],
        compared_with={entry.name: entry.index.hash for entry in sets.tests},
        weights_sha256=weights,
        notes=notes,
    )


def _tuned_on(entry: EvaluationSet, choice: Choice) -> TunedOn:
    return TunedOn(entry.index.name, entry.index.hash, choice.images[entry.name])
