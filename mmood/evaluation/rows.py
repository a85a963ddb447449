"""From the gathered scores of sets to the rows of results, and to what loggers get."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields

from mmood.data.datamodule import EvaluationSet
from mmood.evaluation.store import SetScores
from mmood.metrics.functional import Rates, accuracy, mean_rates, ood_metrics
from mmood.results.model import IdRow, ResultRow, Results


def id_rows(sets: Mapping[str, EvaluationSet], found: Mapping[str, SetScores], variant: str | None) -> list[IdRow]:
    """Return the accuracy on the ID set; nothing without images of it.

    Args:
        sets: by name, with their groups.
        found: the gathered scores of each set.
        variant: what results call the weights, where a run evaluates several.
    """
    scores = _id_scores(sets, found)
    if scores is None or not len(scores.key):
        return []
    right = accuracy(scores.label, scores.predicted)
    return [IdRow(set=scores.set, n=len(scores.key), accuracy=right, variant=variant)]


def ood_rows(sets: Mapping[str, EvaluationSet], found: Mapping[str, SetScores], variant: str | None) -> list[ResultRow]:
    """Return the metrics of every static score on every OoD set; see `id_rows`."""
    id_scores = _id_scores(sets, found)
    if id_scores is None or not len(id_scores.key):
        return []
    others = [(entry.group, found[name]) for name, entry in sets.items() if entry.group != "id"]
    return [
        ResultRow(
            score=score,
            variant=variant,
            set=ood.set,
            group=group,
            metrics=ood_metrics(id_scores.of(score), ood.of(score)),
        )
        for score in id_scores.names
        for group, ood in others
        if len(ood.key)
    ]


def logged_values(results: Results, benchmark: str | None = None) -> dict[str, float]:
    """Return what loggers get: accuracies, and rates as means over seeds, by `id/...` and `ood/SET/SCORE_...`.

    Of several benchmarks, each name begins with that of its benchmark and a slash.
    """
    accuracies = {row.set: row.accuracy for row in results.id if row.accuracy is not None}
    values = {f"id/{name}/accuracy": accuracy for name, accuracy in accuracies.items()}
    # There is one ID set; under this name a checkpoint can be chosen whatever the set is called.
    if accuracies:
        values["id/accuracy"] = next(iter(accuracies.values()))
    seeds: dict[str, list[Rates]] = {}
    for row in results.rows:
        seeds.setdefault(f"ood/{row.set}/{row.score}", []).append(row.metrics)
    for name, rates in seeds.items():
        values |= {f"{name}_{field.name}": getattr(mean_rates(rates), field.name) for field in fields(Rates)}
    for mean in results.means:
        values |= {
            f"ood/mean_{mean.group}/{mean.score}_{field.name}": getattr(mean.rates, field.name)
            for field in fields(Rates)
        }
    return values if benchmark is None else {f"{benchmark}/{name}": value for name, value in values.items()}


def _id_scores(sets: Mapping[str, EvaluationSet], found: Mapping[str, SetScores]) -> SetScores | None:
    return next((found[name] for name, entry in sets.items() if entry.group == "id"), None)
