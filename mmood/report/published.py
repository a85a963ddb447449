"""Rows of papers that a run can be held against, and which of them its protocol fits."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from mmood.data.benchmarks import BENCHMARKS
from mmood.recipes.registry import find_recipe
from mmood.report.runs import Run
from mmood.results.blocks import label


@dataclass(frozen=True)
class PublishedRow:
    """A row of a paper: one method on the sets of a benchmark. Its FPR95 is ID-pos.

    Attributes:
        method: as the paper calls it.
        source: where it stands.
        protocol: name of the benchmark.
        scores: names under which mmood's configs compute this score.
        module: class of the model.
        module_settings: what the run must have recorded of its module, such as prompts.
        score_settings: what it must have recorded of the score, such as the temperature.
        sets: set -> "auroc" and "fpr95_id_pos", in [0, 1].
    """

    method: str
    source: str
    protocol: str
    scores: Sequence[str]
    module: str
    module_settings: Mapping[str, Any]
    score_settings: Mapping[str, Any]
    sets: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Match:
    """A published row beside a score of a run: the values of both on each set that the run has."""

    run: str
    score: str
    row: PublishedRow
    values: Mapping[str, tuple[Mapping[str, float], Mapping[str, float]]]


def published_rows() -> tuple[list[str], list[PublishedRow]]:
    """Return the models that the rows are of, and the rows."""
    document = json.loads(resources.files("mmood.report").joinpath("assets/published.json").read_text("utf-8"))
    return document["models"], [PublishedRow(**row) for row in document["rows"]]


def matches(run: Run) -> list[Match]:
    """Return the published rows whose protocol fits: model, settings, ID images, and the images of each set.

    A number under other settings is another number: MCM at temperature 0.01 is 6 to 8 points of AUROC away.
    """
    models, rows = published_rows()
    if _model(run) not in models:
        return []
    found = []
    for row in rows:
        for score in row.scores:
            values = _values(run, score, row) if _fits(run, score, row) else {}
            if values:
                found.append(Match(run.name, score, row, values))
    return found


def _fits(run: Run, score: str, row: PublishedRow) -> bool:
    provenance: Mapping[str, Any] = run.results.provenance
    benchmark = BENCHMARKS[row.protocol]
    sizes = {entry.set: entry.n for entry in run.results.id}
    settings = provenance.get("scores", {}).get(score)
    return (
        provenance.get("module") == row.module
        and sizes == {benchmark.id: find_recipe(benchmark.id).count}
        and settings is not None
        and _agree(row.module_settings, provenance.get("settings", {}))
        and _agree(row.score_settings, settings)
    )


def _values(run: Run, score: str, row: PublishedRow) -> dict[str, tuple[Mapping[str, float], Mapping[str, float]]]:
    found: dict[str, tuple[Mapping[str, float], Mapping[str, float]]] = {}
    for own in run.results.rows:
        whole = own.set in row.sets and own.metrics.n_ood == find_recipe(own.set).count
        if whole and label(own.score, own.variant) == score and own.protocol == "static":
            ours = {"auroc": own.metrics.auroc, "fpr95_id_pos": own.metrics.fpr95_id_pos}
            found[own.set] = (ours, row.sets[own.set])
    return found


def _agree(wanted: Mapping[str, Any], recorded: Mapping[str, Any]) -> bool:
    return all(_plain(value) == _plain(recorded.get(name)) for name, value in wanted.items())


def _plain(value: Any) -> Any:
    # CLIP's tokenizer lower-cases, so "The nice {}" and "the nice {}" are one prompt.
    return [text.lower() for text in value if isinstance(text, str)] if isinstance(value, list | tuple) else value


def _model(run: Run) -> str:
    encoder: Any = run.results.provenance.get("encoder", {})
    name, tag = encoder.get("name", ""), encoder.get("pretrained")
    return f"{name}/{tag}" if tag else str(name)
