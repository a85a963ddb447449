"""What the tables show, before any of them is drawn: blocks of lines, their cells as text, the best ones marked."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

from mmood.metrics.functional import Rates, mean_rates
from mmood.results.model import Protocol, ResultRow, Results


@dataclass(frozen=True)
class Column:
    """A metric as a column: its head in two lines, whether higher is better, and where its value stands."""

    head: str
    below: str
    higher_is_better: bool
    value: Callable[[Rates], float]


AUROC = Column("AUROC", "", True, lambda rates: rates.auroc)
FPR95_ID_POS = Column("FPR95", "ID-pos", False, lambda rates: rates.fpr95_id_pos)
FPR95_OOD_POS = Column("FPR95", "OoD-pos", False, lambda rates: rates.fpr95_ood_pos)
AUPR_ID = Column("AUPR", "ID", True, lambda rates: rates.aupr_id)
AUPR_OOD = Column("AUPR", "OoD", True, lambda rates: rates.aupr_ood)
COLUMNS = (AUROC, FPR95_ID_POS, FPR95_OOD_POS, AUPR_ID, AUPR_OOD)

MEANING = {
    FPR95_ID_POS: "FPR95 ID-pos: OoD accepted when at least 95 % of ID is accepted.",
    FPR95_OOD_POS: "FPR95 OoD-pos: ID rejected when at least 95 % of OoD is rejected.",
}
PROTOCOLS: dict[Protocol, str] = {"static": "static", "test_time": "test-time adaptive"}


@dataclass(frozen=True)
class Cell:
    """A printed number, in per cent, and whether it is the best of its column among static scores.

    `spread` is its sample standard deviation over seeds, printed likewise; None for a single value.
    """

    text: str
    best: bool
    spread: str | None = None


@dataclass(frozen=True)
class Block:
    """The scores side by side on one set, or in the mean over several.

    Attributes:
        name: of the set or of the mean.
        note: what the numbers rest on.
        lines: label of the score -> one cell for each of `COLUMNS`.
    """

    name: str
    note: str
    lines: dict[str, tuple[Cell, ...]]


def blocks(results: Results, protocol: Protocol) -> list[Block]:
    """Return a block for each OoD set, then for each group of several sets, then for all of several groups."""
    rows = [row for row in results.rows if row.protocol == protocol]
    members = {group: {row.set for row in rows if row.group == group} for group in dict.fromkeys(r.group for r in rows)}
    found = [_of_set([row for row in rows if row.set == name], protocol) for name in dict.fromkeys(r.set for r in rows)]
    means = {group: f"{len(sets)} sets" for group, sets in members.items() if len(sets) > 1}
    if len(members) > 1 and any(mean.group == "all" for mean in results.means):
        means["all"] = f"{sum(map(len, members.values()))} sets"
    for group, note in means.items():
        of_group = [mean for mean in results.means if (mean.protocol, mean.group) == (protocol, group)]
        lines = {label(mean.score, mean.variant): mean.rates for mean in of_group}
        inside = [row for row in rows if group in (row.group, "all")]
        spreads = {name: spread(_means_by_seed(own)) for name, own in _by_label(inside).items()}
        found.append(Block(f"mean of {group}", note, _cells(lines, spreads, protocol)))
    return found


def spread(rates: Sequence[Rates]) -> Rates | None:
    """Return the sample standard deviation (n - 1) of each metric, None for fewer than two."""
    if len(rates) < 2:
        return None
    return Rates(
        **{field.name: statistics.stdev(getattr(each, field.name) for each in rates) for field in fields(Rates)}
    )


def label(score: str, variant: str | None) -> str:
    """Return the name of a line: the score, and its variant if there are several."""
    return score if variant is None else f"{score} [{variant}]"


def id_sentence(results: Results) -> str:
    """Return the ID sets in words: sizes and accuracy."""
    accuracies = ["" if row.accuracy is None else f", accuracy {percent(row.accuracy)} %" for row in results.id]
    return " ".join(
        f"ID {label(row.set, row.variant)}: {row.n:,} images{text}."
        for row, text in zip(results.id, accuracies, strict=True)
    )


def percent(share: float) -> str:
    """Return a share as per cent with two decimals.

    >>> percent(0.98765)
    '98.77'
    """
    return f"{100 * share:.2f}"


def _of_set(rows: Sequence[ResultRow], protocol: Protocol) -> Block:
    first = rows[0]
    seeds = {name: [row.metrics for row in own] for name, own in _by_label(rows).items()}
    runs = max(map(len, seeds.values()))
    sizes = " or ".join(f"{count:,}" for count in dict.fromkeys(row.metrics.n_id for row in rows))
    note = f"{first.group}, {first.metrics.n_ood:,} OoD, {sizes} ID"
    lines = {name: mean_rates(own) for name, own in seeds.items()}
    spreads = {name: spread(own) for name, own in seeds.items()}
    return Block(first.set, note + (f", {runs} seeds" if runs > 1 else ""), _cells(lines, spreads, protocol))


def _by_label(rows: Sequence[ResultRow]) -> dict[str, list[ResultRow]]:
    found: dict[str, list[ResultRow]] = {}
    for row in rows:
        found.setdefault(label(row.score, row.variant), []).append(row)
    return found


def _means_by_seed(rows: Sequence[ResultRow]) -> list[Rates]:
    """Return the mean over the sets for each seed; a seed without all of them has no mean."""
    sets = {row.set for row in rows}
    seeds: dict[int | None, dict[str, Rates]] = {}
    for row in rows:
        seeds.setdefault(row.seed, {})[row.set] = row.metrics
    return [mean_rates(list(of.values())) for of in seeds.values() if of.keys() == sets]


def _cells(
    lines: dict[str, Rates], spreads: dict[str, Rates | None], protocol: Protocol
) -> dict[str, tuple[Cell, ...]]:
    compared = protocol == "static" and len(lines) > 1
    marked = [_best(column, list(lines.values())) if compared else "" for column in COLUMNS]
    return {
        name: tuple(
            _cell(column.value(rates), best, None if (deviation := spreads[name]) is None else column.value(deviation))
            for column, best in zip(COLUMNS, marked, strict=True)
        )
        for name, rates in lines.items()
    }


def _cell(value: float, best: str, deviation: float | None) -> Cell:
    text = percent(value)
    return Cell(text, text == best, None if deviation is None else percent(deviation))


def _best(column: Column, rates: Sequence[Rates]) -> str:
    """Return the best value as printed, so that of two equal prints not one alone is marked."""
    values = [column.value(each) for each in rates]
    return percent(max(values) if column.higher_is_better else min(values))
