"""The numbers of several runs for a page, a paper and other programs: Markdown, LaTeX and CSV."""

from __future__ import annotations

from collections.abc import Sequence

from mmood.output.escaping import csv_text, for_latex, for_markdown
from mmood.report.summary import Estimate, Line, Place, Summary, ranked
from mmood.report.uncertainty import METRICS
from mmood.results.blocks import AUROC, FPR95_ID_POS, FPR95_OOD_POS, MEANING, PROTOCOLS, Column, percent

_SHOWN = (AUROC, FPR95_ID_POS, FPR95_OOD_POS)
_RATES = ("auroc", "aupr_id", "aupr_ood", "fpr95_id_pos", "fpr95_ood_pos")


def report_markdown(summary: Summary, resamples: int, notes: Sequence[str] = ()) -> str:
    """Return a table for each set and mean, the best static scores in bold, test-time adaptive ones marked.

    Args:
        summary: of the runs.
        resamples: of the bootstrap.
        notes: sentences on what the runs saw: ID images in OoD sets, streams.
    """
    said = [*summary.warnings, *notes]
    lines = ["# OoD detection", "", f"- {_legend(resamples)}", *(f"- {for_markdown(sentence)}" for sentence in said)]
    for place in summary.places:
        lines += ["", f"## {for_markdown(place.name)}", "", f"{for_markdown(place.note)}.", ""]
        lines.append(f"| Run | Score | {' | '.join(_head(column) for column in _SHOWN)} |")
        lines.append("|:--|:--|--:|--:|--:|")
        for line in ranked(summary, place):
            if place.name in line.estimates:
                cells = [_cell(summary, line, place, column) for column in _SHOWN]
                lines.append(f"| {for_markdown(line.run)} | {for_markdown(_marked(line))} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def report_latex(summary: Summary) -> str:
    """Return a booktabs table: a line for each run and score, FPR95 ID-pos and AUROC for each set and mean."""
    places = summary.places
    spans = "".join(rf"\cmidrule(lr){{{2 * i + 3}-{2 * i + 4}}}" for i in range(len(places)))
    heads = " & ".join(["", "", *(rf"\multicolumn{{2}}{{c}}{{{for_latex(place.name)}}}" for place in places)])
    names = " & ".join(["Run", "Score", *([r"FPR95$\downarrow$", r"AUROC$\uparrow$"] * len(places))])
    body = [
        " & ".join([for_latex(line.run), for_latex(_marked(line)), *_latex_cells(summary, line)]) + r" \\"
        for line in ranked(summary, summary.main_place)
    ]
    return (
        "\n".join(
            [
                *(r"% needs \usepackage{booktabs}", r"\begin{table}", r"\centering"),
                rf"\caption{{OoD detection, in per cent. {for_latex(MEANING[FPR95_ID_POS])} "
                r"$\pm$ is the sample standard deviation over seeds.}",
                *(rf"\begin{{tabular}}{{ll{'rr' * len(places)}}}", r"\toprule", heads + r" \\", spans, names + r" \\"),
                *(r"\midrule", *body, r"\bottomrule", r"\end{tabular}", r"\end{table}"),
            ]
        )
        + "\n"
    )


def _marked(line: Line) -> str:
    return line.score if line.protocol == "static" else f"{line.score} ({PROTOCOLS[line.protocol]})"


def report_csv(summary: Summary) -> str:
    """Return a row for each run, score and place in full precision, in [0, 1]; empty where there is no such number."""
    bounds = [f"{metric}_{end}" for metric in METRICS for end in ("low", "high")]
    heads = ["run", "score", "protocol", "place", "n_seeds", *_RATES, *(f"{name}_sd" for name in _RATES), *bounds]
    rows = [
        [line.run, line.score, line.protocol, place, estimate.seeds, *_raw(estimate)]
        for line in summary.lines
        for place, estimate in line.estimates.items()
    ]
    return csv_text([heads, *rows])


def _legend(resamples: int) -> str:
    drawn = f"In brackets the 95 % bootstrap interval over the images ({resamples:,} resamples)." if resamples else ""
    parts = ["Per cent.", MEANING[FPR95_ID_POS], MEANING[FPR95_OOD_POS], drawn]
    return " ".join([*filter(None, parts), "± is the sample standard deviation over n seeds."])


def _head(column: Column) -> str:
    return f"{column.head} {column.below}".strip() + (" ↑" if column.higher_is_better else " ↓")


def _cell(summary: Summary, line: Line, place: Place, column: Column) -> str:
    estimate = line.estimates[place.name]
    text = percent(column.value(estimate.rates))
    text = f"**{text}**" if summary.is_best(line, place.name, column) else text
    if estimate.spread is not None:
        text += f" ± {percent(column.value(estimate.spread))} (n = {estimate.seeds})"
    if estimate.intervals is not None:
        low, high = estimate.intervals[METRICS[_SHOWN.index(column)]]
        text += f" [{percent(low)}, {percent(high)}]"
    return text


def _latex_cells(summary: Summary, line: Line) -> list[str]:
    cells = []
    for place in summary.places:
        estimate = line.estimates.get(place.name)
        for column in (FPR95_ID_POS, AUROC):
            if estimate is None:
                cells.append("--")
                continue
            text = percent(column.value(estimate.rates))
            text = rf"\textbf{{{text}}}" if summary.is_best(line, place.name, column) else text
            cells.append(
                text if estimate.spread is None else rf"{text}\,$\pm$\,{percent(column.value(estimate.spread))}"
            )
    return cells


def _raw(estimate: Estimate) -> list[str | float]:
    spread = ["" if estimate.spread is None else getattr(estimate.spread, name) for name in _RATES]
    bounds = [end for metric in METRICS for end in (estimate.intervals[metric] if estimate.intervals else ("", ""))]
    return [*(getattr(estimate.rates, name) for name in _RATES), *spread, *bounds]
