"""The pictures of a page: ROC curves, histograms and risk-coverage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Num

from mmood.report.curves import BINS, RISK_POINTS, ROC_POINTS, histograms, risk_coverage, roc
from mmood.report.page.charts import Mark, Series, curves_chart, histogram_chart, legend
from mmood.report.page.html import Html, details, div, element, paragraph, section
from mmood.report.runs import Run
from mmood.results.blocks import label, percent
from mmood.results.model import ResultRow

_MARKS = (("FPR95 ID-pos: 95 % of ID accepted", "circle"), ("FPR95 OoD-pos: 95 % of OoD rejected", "square"))


@dataclass
class Sorted:
    """The scores of the runs, each array sorted once."""

    runs: Sequence[Run]
    _kept: dict[tuple[str, str, str], Num[np.ndarray, " n"]] = field(default_factory=dict)

    def of(self, run: Run, score: str, name: str) -> Num[np.ndarray, " n"]:
        """Return the ascending scores of a set."""
        key = run.name, score, name
        if key not in self._kept:
            self._kept[key] = np.sort(run.sets[name].scores[score])
        return self._kept[key]

    def id(self, run: Run, score: str) -> Num[np.ndarray, " n"]:
        """Return the ascending scores of the ID set."""
        return self.of(run, score, run.id_set or "")


def roc_section(scores: Sorted) -> Html:
    """Return, for each set, the leading score of each run in one chart, and below all scores of each run."""
    leading = [(run, score) for run in scores.runs if (score := run.leading_score()) is not None]
    note = (
        "Share of ID accepted over share of OoD accepted. Each curve is linear between exact points: "
        f"{ROC_POINTS} at even steps of either axis. Dotted: 95 % of ID, 5 % of OoD."
    )
    parts = [paragraph(note, "note")]
    if len(leading) > 1:
        names = [(f"{run.name}: {score}", place) for place, (run, score) in enumerate(leading)]
        parts += [element("h3", "The leading score of each run"), legend(names, _MARKS)]
        sets = dict.fromkeys(name for run, _ in leading for _, name in run.pairs())
        parts.append(div("charts", [_roc_chart(scores, name, leading, with_run=True) for name in sets]))
    for run in scores.runs:
        own = dict.fromkeys(score for score, _ in run.pairs())
        if not own:
            parts.append(paragraph(f"{run.name} saved no scores of single images, so it has no curves."))
            continue
        charts = [_roc_chart(scores, name, [(run, score) for score in own]) for name in _sets(run)]
        drawn = [legend([(score, place) for place, score in enumerate(own)], _MARKS), div("charts", charts)]
        parts.append(details(f"All scores of {run.name}", drawn, opened=len(leading) == 1))
    return section("roc", "ROC curves", parts)


def histograms_section(scores: Sorted) -> Html:
    """Return, for each run and score, ID against every set."""
    note = (
        "Filled blue: ID. Orange line: the OoD set. Dashed: the threshold that accepts 95 % of ID; OoD to its right is "
        f"accepted. {BINS} bins over the middle 99.8 %; values outside are counted in the first and last bins. Each "
        "histogram has its own vertical scale. Higher scores are more in-distribution."
    )
    parts = [paragraph(note, "note")]
    for run in scores.runs:
        if not run.pairs():
            continue
        groups = []
        for score in dict.fromkeys(score for score, _ in run.pairs()):
            charts = [_histogram(scores, run, score, name) for of, name in run.pairs() if of == score]
            groups.append(div("", [element("h3", score), div("small", charts)]))
        shown = div("columns" if len(_sets(run)) <= 2 else "", groups)
        parts.append(details(f"Histograms of {run.name}", shown, opened=len(scores.runs) == 1))
    return section("histograms", "Score histograms", parts)


def risk_section(runs: Sequence[Run]) -> Html:
    """Return the error of the classifier on the ID images that each score is most sure of."""
    note = (
        "Selective classification on ID images: the error rate among the images that score highest, over the share "
        "that is kept. At full coverage it is the error rate of the classifier. In brackets the area under "
        f"the curve (AURC, lower is better), exact; {RISK_POINTS} exact points are drawn."
    )
    charts = [chart for run in runs if (chart := _risk_chart(run)) is not None]
    if not charts:
        charts = [paragraph("No run saved scores together with labels and predictions of ID images.")]
    return section("risk", "Risk and coverage on ID", [paragraph(note, "note"), div("charts", charts)])


def _roc_chart(scores: Sorted, name: str, chosen: Sequence[tuple[Run, str]], with_run: bool = False) -> Html:
    series, words = [], []
    for place, (run, score) in enumerate(chosen):
        row = _row(run, score, name)
        if row is None:
            continue
        rates = row.metrics
        marks = (Mark(rates.fpr95_id_pos, 0.95, "circle"), Mark(0.05, 1 - rates.fpr95_ood_pos, "square"))
        shown = f"{run.name}: {score}" if with_run else score
        series.append(Series(shown, roc(scores.id(run, score), scores.of(run, score, name)), place, marks))
        words.append(f"{shown} AUROC {percent(rates.auroc)}")
    axes = ("OoD accepted, %", "ID accepted, %")
    chart = curves_chart(f"ROC on {name}", "; ".join(words), axes, series, guides=True)
    return element("figure", [element("figcaption", name), chart])


def _histogram(scores: Sorted, run: Run, score: str, name: str) -> Html:
    row = _row(run, score, name)
    assert row is not None, "pairs come from rows"
    shares = histograms(scores.id(run, score), scores.of(run, score, name))
    words = f"AUROC {percent(row.metrics.auroc)}, OoD accepted at 95 % of ID {percent(row.metrics.fpr95_id_pos)}"
    chart = histogram_chart(f"{score}: ID against {name}", words, shares)
    return element("figure", [element("figcaption", f"{name}, AUROC {percent(row.metrics.auroc)}"), chart])


def _risk_chart(run: Run) -> Html | None:
    side = run.id_file
    if side is None or not run.pairs() or (side.predicted < 0).all():
        return None
    correct = side.predicted == side.label
    found = {score: risk_coverage(side.scores[score], correct) for score in dict.fromkeys(s for s, _ in run.pairs())}
    top = max(0.02, float(np.ceil(20 * max(curve.y.max() for curve, _ in found.values())) / 20))
    series = [Series(score, curve, place) for place, (score, (curve, _)) in enumerate(found.items())]
    names = [(f"{score} ({percent(area)})", place) for place, (score, (_, area)) in enumerate(found.items())]
    words = "; ".join(name for name, _ in names)
    chart = curves_chart(f"Risk and coverage of {run.name}", words, ("ID kept, %", "wrong, %"), series, top)
    return element("figure", [element("figcaption", run.name), chart, legend(names)])


def _sets(run: Run) -> list[str]:
    return list(dict.fromkeys(name for _, name in run.pairs()))


def _row(run: Run, score: str, name: str) -> ResultRow | None:
    rows = (row for row in run.results.rows if (label(row.score, row.variant), row.set) == (score, name))
    return next(rows, None) if (score, name) in run.pairs() else None
