"""The page as a whole: one file that asks nothing of any network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mmood.report.comparison import compare
from mmood.report.page.audit import audit_section
from mmood.report.page.comparisons import comparisons_section, published_section
from mmood.report.page.hardest import Library, classes_section, images_section
from mmood.report.page.html import Html, div, element, paragraph
from mmood.report.page.numbers import numbers_section
from mmood.report.page.pictures import Sorted, histograms_section, risk_section, roc_section
from mmood.report.page.pixels import pixels_section
from mmood.report.page.robustness import robustness_section
from mmood.report.page.settings import provenance_section, settings_section
from mmood.report.page.standalone import asset, standalone
from mmood.report.page.streams import streams_section
from mmood.report.published import matches
from mmood.report.runs import Run
from mmood.report.summary import Summary, ranked
from mmood.report.uncertainty import Uncertainty
from mmood.results.blocks import AUROC, FPR95_ID_POS, id_sentence, percent
from mmood.results.overlap import run_overlaps
from mmood.results.protocol import run_protocols

_LINKS = {
    "numbers": "Numbers",
    "robustness": "Robustness",
    "streams": "Streams",
    "pixels": "Pixels",
    "paired": "Paired",
    "roc": "ROC",
    "histograms": "Histograms",
    "images": "Images",
    "classes": "Classes",
    "risk": "Risk",
    "audit": "Audit",
    "published": "Published",
    "settings": "Settings",
    "provenance": "Provenance",
}


def to_html(runs: Sequence[Run], summary: Summary, uncertainty: Uncertainty) -> str:
    """Return the report as one page."""
    scores, library = Sorted(runs), Library()
    streams, audited, robust = streams_section(runs), audit_section(runs), robustness_section(runs)
    pixels = pixels_section(runs)
    sections = [
        numbers_section(summary, uncertainty.resamples, run_protocols({run.name: run.results for run in runs})),
        *([robust] if robust else []),
        *([streams] if streams else []),
        *([pixels] if pixels else []),
        comparisons_section(compare(runs, uncertainty), uncertainty.resamples),
        roc_section(scores),
        histograms_section(scores),
        images_section(runs, library),
        classes_section(runs, library),
        risk_section(runs),
        *([audited] if audited else []),
        published_section([match for run in runs for match in matches(run)]),
        settings_section(runs),
        provenance_section(runs),
    ]
    present = {
        "robustness": robust is not None,
        "streams": streams is not None,
        "pixels": pixels is not None,
        "audit": audited is not None,
    }
    body = [_header(runs, summary), _navigation(present), element("main", sections)]
    return standalone(f"OoD detection: {', '.join(run.name for run in runs)}", body, asset("page.js"))


def _header(runs: Sequence[Run], summary: Summary) -> Html:
    partial = [run.name for run in runs if run.results.partial]
    warning = (
        [paragraph(f"Partial evaluations, which are not results: {', '.join(partial)}.", "warn")] if partial else []
    )
    sentences = dict.fromkeys(f"{run.name}. {id_sentence(run.results)}" for run in runs)
    warning += [paragraph(said, "note warn") for said in run_overlaps({run.name: run.results for run in runs})]
    return element(
        "header",
        [
            element("h1", "Out-of-distribution detection"),
            *(paragraph(sentence, "note") for sentence in sentences),
            *warning,
            div("facts", _facts(runs, summary)),
        ],
    )


def _facts(runs: Sequence[Run], summary: Summary) -> list[Html]:
    place = summary.main_place.name
    lines = [
        line for line in ranked(summary, summary.main_place) if place in line.estimates and line.protocol == "static"
    ]
    facts = [_fact(f"{len(runs)}", "run" if len(runs) == 1 else "runs", f"{len(summary.lines)} lines, {place}")]
    if lines:
        best = lines[0]
        rates = best.estimates[place].rates
        facts.append(_fact(percent(AUROC.value(rates)), "best AUROC, %", f"{best.run}: {best.score}, {place}"))
        least = min(lines, key=lambda line: line.estimates[place].rates.fpr95_id_pos)
        value = FPR95_ID_POS.value(least.estimates[place].rates)
        facts.append(_fact(percent(value), "lowest FPR95 ID-pos, %", f"{least.run}: {least.score}, {place}"))
    accuracies = [(row.accuracy, run.name) for run in runs for row in run.results.id if row.accuracy is not None]
    if accuracies:
        accuracy, name = max(accuracies)
        facts.append(_fact(percent(accuracy), "best ID accuracy, %", name))
    return facts


def _fact(number: str, what: str, where: str) -> Html:
    return element("div", [element("strong", number), what, element("div", where, {"class": "faint"})])


def _navigation(present: Mapping[str, bool]) -> Html:
    shown = {name: text for name, text in _LINKS.items() if present.get(name, True)}
    links = [element("li", element("a", text, {"href": f"#{name}"})) for name, text in shown.items()]
    return element("nav", element("ul", links), {"aria-label": "Sections"})
