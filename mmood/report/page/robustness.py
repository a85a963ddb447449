"""What breaks first: clean, shift, attack and certificate side by side for several detectors."""

from __future__ import annotations

from collections.abc import Sequence

from mmood.report.conditions import Kind
from mmood.report.page.comparisons import signed
from mmood.report.page.html import NOTHING, Cell, Html, element, join, paragraph, section, table
from mmood.report.robustness import Detector, Family, Point, detectors_of
from mmood.report.runs import Run
from mmood.results.blocks import percent

_KINDS: dict[Kind, str] = {
    "clean": "clean",
    "shift": "shift",
    "attack": "attack",
    "smoothed": "defence",
    "certificate": "certificate",
}


def robustness_section(runs: Sequence[Run]) -> Html | None:
    """Return the section; None where no run is shifted, attacked or smoothed."""
    detectors = detectors_of(runs)
    if not detectors:
        return None
    return section(
        "robustness", "What breaks first", [paragraph(_NOTE, "note"), _ranking(detectors), _beside(detectors)]
    )


_NOTE = (
    "AUROC in per cent, the mean over the OoD sets of a row, with the difference from the clean AUROC on these sets. A "
    "detector is broken, and its number marked, where it has lost half of what it is above chance, 50. A certificate "
    "is a lower bound for every attack within its radius; the AUROC under one attack is an upper bound of what attacks "
    "leave. Radii of l2 and linf are different units."
)


def _ranking(detectors: Sequence[Detector]) -> Html:
    rows = [
        [
            Cell(detector.name),
            Cell(str(place), place),
            Cell(_KINDS[family.kind]),
            Cell(family.name),
            *_at_weakest(family),
            Cell(NOTHING if (broken := family.first_broken) is None else broken.condition.shown or "yes"),
            _worst(family),
        ]
        for detector in detectors
        for place, family in enumerate(detector.ranked(), start=1)
    ]
    heads = ["Detector", "Rank", "Kind", "Condition", "Weakest tested", "Costs", "Broken from", "Lowest AUROC"]
    return table("Ranked by what the weakest strength that was tested costs", heads, rows)


def _at_weakest(family: Family) -> list[Cell]:
    point = family.points[0]
    return [Cell(point.condition.shown or NOTHING), _difference(point)]


def _difference(point: Point) -> Cell:
    loss = point.loss
    return Cell(NOTHING, css="faint") if loss is None else Cell(signed(-loss), -loss, "worse" if point.broken else "")


def _worst(family: Family) -> Cell:
    point = min(family.points, key=lambda point: point.auroc)
    return Cell(percent(point.auroc), point.auroc, "worse" if point.broken else "")


def _beside(detectors: Sequence[Detector]) -> Html:
    points = {
        (family.kind, family.name, point.condition.shown): point.condition.strength
        for detector in detectors
        for family in detector.families
        for point in family.points
    }
    order = list(dict.fromkeys((kind, name) for kind, name, _ in points))
    keys = sorted(points, key=lambda key: (list(_KINDS).index(key[0]), order.index(key[:2]), points[key]))
    clean = [Cell("clean"), Cell(""), Cell(""), *(_clean(detector) for detector in detectors)]
    rows = [clean, *([Cell(_KINDS[key[0]]), Cell(key[1]), Cell(key[2]), *_cells(detectors, key)] for key in keys)]
    heads = ["Kind", "Condition", "Strength", *(detector.name for detector in detectors)]
    return table("All detectors side by side, weakest first", heads, rows, sortable=False)


def _clean(detector: Detector) -> Cell:
    return Cell(NOTHING, css="faint") if detector.clean is None else Cell(percent(detector.clean), detector.clean)


def _cells(detectors: Sequence[Detector], key: tuple[Kind, str, str]) -> list[Cell]:
    cells = []
    for detector in detectors:
        own = (family for family in detector.families if (family.kind, family.name) == key[:2])
        point = next((one for family in own for one in family.points if one.condition.shown == key[2]), None)
        cells.append(Cell(NOTHING, css="faint") if point is None else _value(point))
    return cells


def _value(point: Point) -> Cell:
    loss = [] if point.loss is None else [element("small", signed(-point.loss))]
    return Cell(join([percent(point.auroc), *loss]), point.auroc, "worse" if point.broken else "")
