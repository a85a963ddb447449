"""The page of a reproduced table, as Markdown, HTML and JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from mmood.output.escaping import for_markdown
from mmood.published.model import GRADES, PublishedTable
from mmood.report.page.comparisons import METRICS, signed
from mmood.report.page.html import Cell, Html, element, paragraph, section, table
from mmood.report.page.standalone import asset, standalone
from mmood.reproduction.comparing import Compared, Outcome, Verdict
from mmood.reproduction.plan import Plan, Wishes
from mmood.results.blocks import percent

_HEADS = {**METRICS, "accuracy": "accuracy"}
MEANING: dict[Verdict, str] = {
    "reproduced": "every number is within the tolerance",
    "not reproduced": "a number is outside of the tolerance",
    "no verdict": "the run is of other images, another model or other settings",
    "not run": "its run is not there",
    "no such method": "mmood has no run for it",
}
"""Verdict -> in words."""
_SCHEMA = 1


def pages(plan: Plan, found: Sequence[Outcome], wishes: Wishes) -> dict[str, str]:
    """Return the texts of the page: `md`, `html` and `json`."""
    return {
        "md": _markdown(plan, found, wishes),
        "html": _html(plan, found, wishes),
        "json": _json(plan, found, wishes),
    }


def summary(found: Sequence[Outcome]) -> str:
    """Return the verdicts in a sentence."""
    counts: dict[Verdict, int] = {}
    for one in found:
        counts[one.verdict] = counts.get(one.verdict, 0) + 1
    return ", ".join(f"{count} {verdict}" for verdict, count in counts.items())


def _sentences(plan: Plan, wishes: Wishes) -> Iterator[str]:
    published = plan.table
    if wishes.stand_in or wishes.given("--model.encoder.name"):
        yield "STAND-IN data or model: the numbers show that the commands work, and nothing about the paper."
    yield f"Published: {published.source}; {GRADES[published.grade]} ({published.read_in})."
    if published.notes:
        yield published.notes
    yield from (f"Known difference: {sentence}" for sentence in published.differs)
    yield _tolerance(published)


def _tolerance(published: PublishedTable) -> str:
    points = {name: f"{100 * value:g}" for name, value in published.tolerance.items()}
    return (
        f"Tolerance, in points of per cent: AUROC {points['auroc']}, FPR95 {points['fpr95']}, accuracy "
        f"{points['accuracy']}."
    )


def _markdown(plan: Plan, found: Sequence[Outcome], wishes: Wishes) -> str:
    lines = [f"# {plan.table.id}: {for_markdown(plan.table.title)}", ""]
    lines += [f"- {for_markdown(sentence)}" for sentence in _sentences(plan, wishes)]
    lines += [
        "",
        "| method | place | metric | published | ours | difference | verdict |",
        "|:--|:--|:--|--:|--:|--:|:--|",
    ]
    for one in found:
        lines += [f"| {' | '.join(map(for_markdown, row))} |" for row in _rows(one, wishes)]
    if reasons := list(_reasons(found)):
        lines += ["", "## Why there is no verdict", ""]
        lines += [f"- {for_markdown(sentence)}" for sentence in reasons]
    lines += ["", "## Commands", "", *(f"    {step.line()}" for step in plan.steps)]
    return "\n".join(lines) + "\n"


def _rows(one: Outcome, wishes: Wishes) -> Iterator[list[str]]:
    if not one.numbers:
        yield [one.row.method, *_all_published(one), "", "", one.verdict]
    for place, number in enumerate(one.numbers):
        ours = [percent(number.published), percent(number.ours), signed(number.difference)]
        yield [
            one.row.method if not place else "",
            _named(number.place, wishes),
            _HEADS[number.metric],
            *ours,
            one.verdict if not place else _own(one, number),
        ]


def _named(place: str, wishes: Wishes) -> str:
    return f"{place} (here {wishes.stand_in[place]})" if place in wishes.stand_in else place


def _own(one: Outcome, number: Compared) -> str:
    return "outside" if one.verdict == "not reproduced" and not number.fits else ""


def _all_published(one: Outcome) -> list[str]:
    """Return the cells of a row without a run: its means, or what it has."""
    values: Mapping[str, Mapping[str, float]] = {
        **{f"mean of {group}": values for group, values in one.row.means.items()},
        **(one.row.sets if not one.row.means else {}),
    }
    if not values and one.row.accuracy is not None:
        return ["ID", "accuracy", percent(one.row.accuracy)]
    numbers = [" / ".join(percent(value) for value in each.values()) for each in values.values()]
    metrics = next(iter(values.values()), {})
    return [", ".join(values), " / ".join(_HEADS.get(metric, metric) for metric in metrics), ", ".join(numbers)]


def _reasons(found: Sequence[Outcome]) -> Iterator[str]:
    said: dict[tuple[str, ...], list[str]] = {}
    for one in found:
        if one.verdict == "no verdict":
            said.setdefault(one.reasons, []).append(one.row.method)
    for reasons, methods in said.items():
        yield f"{', '.join(methods)}: {'; '.join(reasons)}."


def _html(plan: Plan, found: Sequence[Outcome], wishes: Wishes) -> str:
    heads = ["Method", "Place", "Metric", "Published", "Ours", "Difference", "Verdict"]
    rows = [[Cell(cell, css=_css(one, cell)) for cell in row] for one in found for row in _rows(one, wishes)]
    meanings = "; ".join(f"{verdict}: {MEANING[verdict]}" for verdict in dict.fromkeys(one.verdict for one in found))
    no_verdict = [paragraph(sentence, "note") for sentence in _reasons(found)]
    commands = element("pre", "\n".join(step.line() for step in plan.steps))
    body = [
        element("header", [element("h1", f"{plan.table.id}: {plan.table.title}"), *_header(plan, wishes)]),
        element(
            "main",
            [
                section("numbers", "Numbers", [paragraph(f"{meanings}.", "note"), _table(heads, rows)]),
                *([section("reasons", "Why there is no verdict", no_verdict)] if no_verdict else []),
                section("commands", "Commands", [commands]),
            ],
        ),
    ]
    return standalone(f"{plan.table.id}, run again", body, asset("page.js"))


def _header(plan: Plan, wishes: Wishes) -> Iterator[Html]:
    for sentence in _sentences(plan, wishes):
        yield paragraph(sentence, "warn" if sentence.startswith("STAND-IN") else "note")


def _table(heads: Sequence[str], rows: Sequence[Sequence[Cell]]) -> Html:
    return table("Per cent; published and ours", heads, rows, sortable=False)


def _css(one: Outcome, cell: str) -> str:
    return {"reproduced": "best", "not reproduced": "worse", "outside": "worse"}.get(cell, "")


def _json(plan: Plan, found: Sequence[Outcome], wishes: Wishes) -> str:
    content = {
        "schema": _SCHEMA,
        "table": plan.table.id,
        "source": plan.table.source,
        "grade": plan.table.grade,
        "stand_in": dict(wishes.stand_in),
        "tolerance": dict(plan.table.tolerance),
        "rows": [one.as_dict() for one in found],
        "commands": [step.line() for step in plan.steps],
    }
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
