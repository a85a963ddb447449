"""The tables of a page: all lines at a glance, then every place with intervals and spread."""

from __future__ import annotations

from collections.abc import Sequence

from mmood.report.page.html import NOTHING, Cell, Html, details, element, join, paragraph, section, table
from mmood.report.summary import Estimate, Line, Place, Summary, ranked
from mmood.results.blocks import AUROC, COLUMNS, FPR95_ID_POS, FPR95_OOD_POS, MEANING, PROTOCOLS, Column, percent
from mmood.results.model import Protocol

FIELDS = {
    AUROC: "auroc",
    FPR95_ID_POS: "fpr95_id_pos",
    FPR95_OOD_POS: "fpr95_ood_pos",
}
"""Columns that have intervals -> name of the metric."""


def numbers_section(summary: Summary, resamples: int, protocols: Sequence[str]) -> Html:
    """Return the overview and a table for each set and mean; test-time adaptive scores stand in tables of their own."""
    return section(
        "numbers",
        "Numbers",
        [
            *(paragraph(warning, "note warn") for warning in summary.warnings),
            paragraph(_legend(resamples), "note"),
            *_overviews(summary, protocols),
            *(_place(summary, place, opened=len(summary.places) == 1) for place in summary.places),
        ],
    )


def _legend(resamples: int) -> str:
    drawn = (
        f"In brackets: the 95 % percentile interval of a bootstrap over the images, {resamples:,} resamples, ID and "
        "OoD "
        "drawn separately; it does not cover other data or another training run. "
        if resamples
        else ""
    )
    return (
        f"Per cent. {MEANING[FPR95_ID_POS]} {MEANING[FPR95_OOD_POS]} Marked: the best static score of a column, as "
        f"printed. {drawn}± is the sample standard deviation over seeds, with their number n. "
        "Means weight all sets equally."
    )


def _overviews(summary: Summary, protocols: Sequence[str]) -> list[Html]:
    static = _overview(summary, "static")
    adaptive = _overview(summary, "test_time")
    said = [paragraph(sentence, "note") for sentence in protocols]
    return [*static, element("h3", PROTOCOLS["test_time"].capitalize()), *said, *adaptive] if adaptive else static


def _overview(summary: Summary, protocol: Protocol) -> list[Html]:
    main = summary.main_place
    sets = [place for place in summary.places if len(place.sets) == 1 and place is not main]
    heads = [
        "Run",
        "Score",
        *(_head(column, main.name) for column in FIELDS),
        *(_head(AUROC, place.name) for place in sets),
    ]
    rows = [
        [
            Cell(line.run),
            Cell(line.score),
            *(_value(summary, line, main, column) for column in FIELDS),
            *(_value(summary, line, place, AUROC) for place in sets),
        ]
        for line in ranked(summary, main)
        if line.protocol == protocol
    ]
    what = "" if protocol == "static" else f"{PROTOCOLS[protocol].capitalize()}: "
    caption = f"{what}{main.name.capitalize()}, best AUROC first, then the AUROC of each set"
    return [table(caption, heads, rows)] if rows else []


def _place(summary: Summary, place: Place, opened: bool) -> Html:
    tables = []
    for protocol, name in PROTOCOLS.items():
        rows = [
            [Cell(line.run), Cell(line.score), *(_value(summary, line, place, column) for column in COLUMNS)]
            for line in ranked(summary, place)
            if place.name in line.estimates and line.protocol == protocol
        ]
        caption = "Best AUROC first" if protocol == "static" else f"{name.capitalize()}, best AUROC first"
        if rows:
            tables.append(table(caption, ["Run", "Score", *(_head(column) for column in COLUMNS)], rows))
    return details(f"{place.name}: {place.note}", tables, opened)


def _head(column: Column, place: str = "") -> Html:
    arrow = "↑" if column.higher_is_better else "↓"
    first = f"{column.head} {column.below}".strip() + f" {arrow}"
    return join([first, element("br"), element("small", place)]) if place else join([first])


def _value(summary: Summary, line: Line, place: Place, column: Column) -> Cell:
    estimate = line.estimates.get(place.name)
    if estimate is None:
        return Cell(NOTHING, css="faint")
    value = column.value(estimate.rates)
    notes = [element("small", note) for note in _notes(estimate, column)]
    best = "best" if summary.is_best(line, place.name, column) else ""
    return Cell(join([percent(value), *notes]), value, best)


def _notes(estimate: Estimate, column: Column) -> Sequence[str]:
    notes = []
    if estimate.spread is not None:
        notes.append(f"± {percent(column.value(estimate.spread))} (n = {estimate.seeds})")
    if estimate.intervals is not None and column in FIELDS:
        low, high = estimate.intervals[FIELDS[column]]
        notes.append(f"[{percent(low)}, {percent(high)}]")
    return notes
