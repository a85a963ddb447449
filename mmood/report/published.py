"""Rows of papers that a run can be held against, and which of them its protocol fits."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from statistics import fmean
from typing import Any

from mmood.data.benchmarks import BENCHMARKS
from mmood.recipes.registry import find_recipe
from mmood.report.runs import Run
from mmood.results.blocks import label
from mmood.results.model import ResultRow


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
        sets: set -> "auroc" and "fpr95_id_pos", in [0, 1], or one of them.
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
    """A published row beside a score of a run: the values of both on each set that the run has.

    A test-time score has the mean over the seeds of its streams.
    """

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
    own: dict[str, list[ResultRow]] = {}
    for each in run.results.rows:
        whole = each.set in row.sets and each.metrics.n_ood == find_recipe(each.set).count
        if whole and label(each.score, each.variant) == score and (each.protocol == "static" or _usual_stream(run)):
            own.setdefault(each.set, []).append(each)
    return {name: (_means(rows, row.sets[name]), row.sets[name]) for name, rows in own.items()}


def _means(rows: Sequence[ResultRow], metrics: Iterable[str]) -> dict[str, float]:
    """Return the mean of some metrics over the seeds."""
    rates = [{"auroc": row.metrics.auroc, "fpr95_id_pos": row.metrics.fpr95_id_pos} for row in rows]
    return {metric: fmean(each[metric] for each in rates) for metric in metrics}


def _usual_stream(run: Run) -> bool:
    """Return whether the streams of a run are those of the papers: shuffled whole sets, batches of 256, not carried."""
    streams: Any = run.results.provenance.get("streams", {})
    usual = {"batch_size": 256, "order": "shuffled", "ratio": None, "carry": False}
    return _agree(usual, streams.get("protocol", {}))


def _agree(wanted: Mapping[str, Any], recorded: Mapping[str, Any]) -> bool:
    return all(_plain(value) == _plain(recorded.get(name)) for name, value in wanted.items())


def _plain(value: Any) -> Any:
    # CLIP's tokenizer lower-cases, so "The nice {}" and "the nice {}" are one prompt.
    return [text.lower() for text in value if isinstance(text, str)] if isinstance(value, list | tuple) else value


def _model(run: Run) -> str:
    encoder: Any = run.results.provenance.get("encoder", {})
    name, tag = encoder.get("name", ""), encoder.get("pretrained")
    return f"{name}/{tag}" if tag else str(name)
