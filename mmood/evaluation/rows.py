"""From the gathered scores of sets to the rows of results, and to what loggers get."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np

from mmood.data.catalog import CSID_GROUP, ID_GROUP, ID_GROUPS, EvaluationSet
from mmood.evaluation.store import SetScores
from mmood.metrics.functional import Rates, accuracy, mean_rates, ood_metrics
from mmood.results.blocks import label
from mmood.results.model import POOLED, IdRow, ResultRow, Results, joined_variant


@dataclass(frozen=True)
class ScoreColumn:
    """A column of the gathered scores, as results call it.

    Attributes:
        score: name of the score.
        variant: which of several of this score; None if there is one.
    """

    score: str
    variant: str | None = None

    @property
    def name(self) -> str:
        """The name of its array."""
        return label(self.score, self.variant)


def id_rows(sets: Mapping[str, EvaluationSet], found: Mapping[str, SetScores], variant: str | None) -> list[IdRow]:
    """Return the accuracy on the ID set, on every covariate-shifted one, and on all of them; nothing without images.

    Args:
        sets: by name, with their groups.
        found: the gathered scores of each set.
        variant: what results call this run, where there are several.
    """
    sides = [found[name] for name, entry in sets.items() if entry.group in ID_GROUPS and len(found[name].key)]
    rows = [_id_row(side.set, side, variant) for side in sides]
    return rows if len(rows) < 2 else [*rows, _id_row(POOLED, pooled(sides), variant)]


def ood_rows(
    sets: Mapping[str, EvaluationSet], found: Mapping[str, SetScores], columns: Sequence[ScoreColumn]
) -> list[ResultRow]:
    """Return the metrics of every column on every OoD set: of the ID set, and with csid sets of both together.

    Args:
        sets: by name, with their groups.
        found: the gathered scores of each set.
        columns: those of the gathered scores, in their order.
    """
    others = [(entry.group, found[name]) for name, entry in sets.items() if entry.group not in ID_GROUPS]
    return [
        ResultRow(
            score=column.score,
            variant=joined_variant(column.variant, variant),
            set=ood.set,
            group=group,
            metrics=ood_metrics(id_scores.of(column.name), ood.of(column.name)),
        )
        for variant, id_scores in _id_sides(sets, found)
        for column in columns
        for group, ood in others
        if len(ood.key)
    ]


def pooled(sides: Sequence[SetScores]) -> SetScores:
    """Return the images of several sets as those of one; the keys count through them, since sets share keys."""
    count = sum(len(side.key) for side in sides)
    return SetScores(
        set=POOLED,
        names=sides[0].names,
        key=np.arange(count),
        label=np.concatenate([side.label for side in sides]),
        predicted=np.concatenate([side.predicted for side in sides]),
        scores=np.concatenate([side.scores for side in sides]),
        skipped=np.empty(0, np.int64),
    )


def logged_values(results: Results, benchmark: str | None = None, variant: str | None = None) -> dict[str, float]:
    """Return what loggers get: accuracies, and rates as means over seeds, by `id/...` and `ood/SET/SCORE_...`.

    Of several benchmarks, each name begins with that of its benchmark and a slash. Rows of another variant than that
    of the pass have it in their name.
    """
    accuracies = {row.set: row.accuracy for row in results.id if row.accuracy is not None}
    values = {f"id/{name}/accuracy": accuracy for name, accuracy in accuracies.items()}
    # There is one ID set; under this name a checkpoint can be chosen whatever the set is called.
    if accuracies:
        values["id/accuracy"] = next(iter(accuracies.values()))

    def named(score: str, of: str | None) -> str:
        return score if of == variant else label(score, of)

    seeds: dict[str, list[Rates]] = {}
    for row in results.rows:
        seeds.setdefault(f"ood/{row.set}/{named(row.score, row.variant)}", []).append(row.metrics)
    for name, rates in seeds.items():
        values |= {f"{name}_{field.name}": getattr(mean_rates(rates), field.name) for field in fields(Rates)}
    for mean in results.means:
        values |= {
            f"ood/mean_{mean.group}/{named(mean.score, mean.variant)}_{field.name}": getattr(mean.rates, field.name)
            for field in fields(Rates)
        }
    return values if benchmark is None else {f"{benchmark}/{name}": value for name, value in values.items()}


def _id_row(name: str, scores: SetScores, variant: str | None) -> IdRow:
    """Return the accuracy, None where not every image has a label: csid sets may have none."""
    right = accuracy(scores.label, scores.predicted) if (scores.label >= 0).all() else None
    return IdRow(set=name, n=len(scores.key), accuracy=right, variant=variant)


def _id_sides(
    sets: Mapping[str, EvaluationSet], found: Mapping[str, SetScores]
) -> Iterator[tuple[str | None, SetScores]]:
    plain = [found[name] for name, entry in sets.items() if entry.group == ID_GROUP and len(found[name].key)]
    shifted = [found[name] for name, entry in sets.items() if entry.group == CSID_GROUP and len(found[name].key)]
    if plain:
        yield None, plain[0]
    if plain and shifted:
        yield POOLED, pooled([*plain, *shifted])
