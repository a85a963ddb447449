"""Paired comparisons, and the published rows beside the runs."""

from __future__ import annotations

from collections.abc import Sequence

from mmood.published.model import GRADES
from mmood.report.comparison import Comparison
from mmood.report.page.html import Cell, Html, details, element, join, paragraph, section, table
from mmood.report.published import Match
from mmood.results.blocks import percent

MINUS = "\u2212"
METRICS = {"auroc": "AUROC", "fpr95_id_pos": "FPR95 ID-pos", "fpr95_ood_pos": "FPR95 OoD-pos"}
"""Metric -> its head in a table."""


def comparisons_section(found: Sequence[Comparison], resamples: int) -> Html:
    """Return a table of differences for each set."""
    if not found:
        reason = "There is nothing to compare: a comparison needs two scores of the same images in `scores/`."
        return section("paired", "Paired comparison", [paragraph(reason, "note")])
    marked = "Intervals that exclude 0 are marked: green is better than the reference, amber is worse. "
    note = (
        "Points of per cent, positive where the score is higher than its reference: the same score of the first run, "
        "or that run's first score. Both scores are on the same images and use the same bootstrap resamples, so the "
        "interval is that of the difference, and is far narrower than two separate intervals suggest. p is DeLong's "
        f"two-sided test of equal AUROC. {marked if resamples else ''}"
        f"{len(found)} comparisons are shown without a correction for multiple testing: of 20 true null hypotheses, "
        "one is marked by chance."
    )
    sets = dict.fromkeys(each.set for each in found)
    tables = [_of_set(name, [each for each in found if each.set == name], opened=len(sets) == 1) for name in sets]
    return section("paired", "Paired comparison", [paragraph(note, "note"), *tables])


def published_section(found: Sequence[Match]) -> Html:
    """Return each published row that fits beside the run."""
    note = (
        "Each score is compared with published rows of the same model, prompts, temperature and image sets. Two "
        "things are not compared: the resizing (papers differ by up to a point) and the mined negative labels. "
        "Most rows were taken from stored copies; check the paper before you quote one."
    )
    if not found:
        why = "No published row matches: a match needs a known model and all images of a known benchmark."
        return section("published", "Published rows", [paragraph(why, "note")])
    rows = [
        [Cell(match.run), Cell(match.score), Cell(_published_as(match)), Cell(name), Cell(METRICS[metric]), *cells]
        for match in found
        for name, (ours, theirs) in match.values.items()
        for metric in ours
        for cells in [_beside(ours[metric], theirs[metric])]
    ]
    heads = ["Run", "Score", "Published as", "Set", "Metric", "Run has", "published", "difference"]
    return section("published", "Published rows", [paragraph(note, "note"), table("Per cent", heads, rows)])


def _published_as(match: Match) -> str:
    return f"{match.row.method} ({match.table.source}; {GRADES[match.table.grade]})"


def _of_set(name: str, found: Sequence[Comparison], opened: bool) -> Html:
    rows = [
        [
            Cell(each.run),
            Cell(each.score),
            Cell(f"{each.reference[0]}: {each.reference[1]}"),
            *(_difference(each, metric) for metric in METRICS),
            Cell(_p(each.p), each.p),
        ]
        for each in found
    ]
    heads = ["Run", "Score", "Reference", *(f"Δ {metric}" for metric in METRICS.values()), "p (AUROC)"]
    return details(f"{name}: {len(found)} comparisons", table(f"Differences on {name}", heads, rows), opened)


def _difference(each: Comparison, metric: str) -> Cell:
    value = each.differences[metric]
    if each.intervals is None:
        return Cell(signed(value), value)
    low, high = each.intervals[metric]
    better, worse = (low > 0, high < 0) if metric == "auroc" else (high < 0, low > 0)
    bounds = element("small", f"[{signed(low)}, {signed(high)}]")
    return Cell(join([signed(value), bounds]), value, "best" if better else "worse" if worse else "")


def _beside(ours: float, theirs: float) -> list[Cell]:
    return [Cell(percent(ours), ours), Cell(percent(theirs), theirs), Cell(signed(ours - theirs), ours - theirs)]


def signed(value: float) -> str:
    """Return a difference of shares in points of per cent, with its sign."""
    return f"{100 * value:+.2f}".replace("-", MINUS)


def _p(p: float) -> str:
    return "< 0.0001" if p < 0.0001 else f"{p:.4f}"
