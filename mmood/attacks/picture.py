"""The curve over eps: what an attack leaves of AUROC, and what share it leads past the clean threshold; as SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from mmood.report.page.html import Html, element
from mmood.results.attack import AttackResults, AttackRow

_LEFT, _TOP, _SIDE, _GAP, _FOOT, _LINE = 52, 40, 260, 70, 52, 18
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#1b1b1f")
_STYLE = """
text { font: 12px system-ui, sans-serif; fill: #1b1b1f } .title { font-weight: 600 }
.grid { stroke: #e3e3e8 } .axis { stroke: #1b1b1f } polyline { fill: none; stroke-width: 2 }
"""
_MEANINGS = {
    "ood-as-id": "OoD images attacked",
    "id-as-ood": "ID images attacked",
    "both": "both attacked",
}


@dataclass(frozen=True)
class Line:
    """A curve: its name, and for each radius the AUROC and the share of wrong decisions at the clean threshold."""

    name: str
    auroc: Sequence[float]
    wrong: Sequence[float]


def picture(results: AttackResults) -> str:
    """Return the picture: means over the OoD sets, from the clean images to the largest radius."""
    radii = ["0", *dict.fromkeys(row.eps for row in results.rows if row.eps is not None)]
    lines = curves(results.rows, radii)
    height = _TOP + _SIDE + _FOOT + _LINE * len(lines) + 10
    width = _LEFT + 2 * _SIDE + _GAP + 20
    title = f"{str(results.settings['method']).upper()}, {results.settings['norm']}: means over the OoD sets"
    parts = [element("title", title), element("style", Html(_STYLE))]
    parts.append(element("rect", (), {"width": f"{width}", "height": f"{height}", "fill": "#ffffff"}))
    for place, (head, of) in enumerate((("AUROC, %", "auroc"), ("wrong at the clean threshold, %", "wrong"))):
        left = _LEFT + place * (_SIDE + _GAP)
        parts += _frame(left, head, radii)
        for number, line in enumerate(lines):
            parts.append(_curve(left, line.auroc if of == "auroc" else line.wrong, number))
    for number, line in enumerate(lines):
        y = _TOP + _SIDE + _FOOT + _LINE * number
        parts.append(_drawn([(_LEFT, y - 4), (_LEFT + 26, y - 4)], number))
        parts.append(_text(_LEFT + 34, y, line.name, "start"))
    size = {"viewBox": f"0 0 {width} {height}", "width": f"{width}", "height": f"{height}"}
    return element("svg", parts, {"xmlns": "http://www.w3.org/2000/svg", "role": "img", **size})


def curves(rows: Sequence[AttackRow], radii: Sequence[str]) -> list[Line]:
    """Return a line for each detector, score and direction that has every radius.

    A wrong decision is an OoD image that is accepted, or an ID image that is rejected; where both kinds of image are
    attacked, the mean of both shares.
    """
    clean: dict[tuple[str | None, str], list[AttackRow]] = {}
    attacked: dict[tuple[str | None, str, str | None, str], dict[str, list[AttackRow]]] = {}
    for row in rows:
        if row.side == "clean":
            clean.setdefault((row.detector, row.score), []).append(row)
        elif row.eps is not None:
            of_line = attacked.setdefault((row.detector, row.score, row.attacked, row.side), {})
            of_line.setdefault(row.eps, []).append(row)
    lines = []
    for (detector, score, target, side), by_radius in attacked.items():
        points: Mapping[str, list[AttackRow]] = {"0": clean[detector, score], **by_radius}
        transfer = f" of {detector}, images made for {target}" if detector else ""
        auroc = [fmean(row.auroc for row in points[radius]) for radius in radii]
        wrong = [fmean(_wrong(row, side) for row in points[radius]) for radius in radii]
        lines.append(Line(f"{score}{transfer}: {_MEANINGS[side]}", auroc, wrong))
    return lines


def _wrong(row: AttackRow, side: str) -> float:
    accepted, rejected = row.ood_accepted, 1 - row.id_accepted
    return {"ood-as-id": accepted, "id-as-ood": rejected}.get(side, (accepted + rejected) / 2)


def _frame(left: float, head: str, radii: Sequence[str]) -> list[Html]:
    parts = [_text(left, _TOP - 14, head, "start", "title")]
    for share in (0, 0.25, 0.5, 0.75, 1):
        y = _y(share)
        ends = {"x1": f"{left}", "x2": f"{left + _SIDE}", "y1": f"{y:.1f}", "y2": f"{y:.1f}"}
        parts.append(element("line", (), {"class": "axis" if share == 0 else "grid", **ends}))
        parts.append(_text(left - 8, y + 4, f"{100 * share:.0f}", "end"))
    parts += [_text(_x(left, place, len(radii)), _TOP + _SIDE + 18, name, "middle") for place, name in enumerate(radii)]
    return parts


def _curve(left: float, values: Sequence[float], number: int) -> Html:
    return _drawn([(_x(left, place, len(values)), _y(value)) for place, value in enumerate(values)], number)


def _drawn(points: Sequence[tuple[float, float]], number: int) -> Html:
    dashes = {} if number < len(_COLOURS) else {"stroke-dasharray": f"{2 + 3 * (number // len(_COLOURS))} 3"}
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return element("polyline", (), {"points": path, "stroke": _COLOURS[number % len(_COLOURS)], **dashes})


def _x(left: float, place: int, count: int) -> float:
    return left + _SIDE * place / max(1, count - 1)


def _y(share: float) -> float:
    return _TOP + _SIDE * (1 - share)


def _text(x: float, y: float, text: str, anchor: str, css: str = "") -> Html:
    place = {"x": f"{x:.1f}", "y": f"{y:.1f}", "text-anchor": anchor}
    return element("text", text, {**place, **({"class": css} if css else {})})
