"""Pictures as SVG in units of their view box; colours and strokes come from the style sheet of the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mmood.report.curves import Curve, Histograms
from mmood.report.page.html import Html, element, join

COLOURS = 7  # of the palette; further lines are dashed
_SIZE = 260  # of the plotting area of a curve
_LEFT, _TOP, _RIGHT, _BOTTOM = 38, 8, 10, 34


@dataclass(frozen=True)
class Mark:
    """An operating point: where it lies, and its shape, "circle" or "square"."""

    x: float
    y: float
    shape: str


@dataclass(frozen=True)
class Series:
    """A line of a chart, with its place in the palette and the points marked on it."""

    name: str
    curve: Curve
    place: int
    marks: tuple[Mark, ...] = ()


def curves_chart(
    title: str,
    description: str,
    axes: tuple[str, str],
    series: Sequence[Series],
    top: float = 1.0,
    guides: bool = False,
) -> Html:
    """Return a chart of curves over 0 to 100 % in x and 0 to `top` in y.

    Args:
        title: of the picture.
        description: its text alternative, with the numbers that it is looked at for.
        axes: what x and y show.
        series: the curves.
        top: the end of the y axis.
        guides: draw the lines at 5 % of x and 95 % of y.
    """
    parts = [element("title", title), element("desc", description), *_frame(axes, top)]
    if guides:
        parts += [_line(_x(0.05), _y(0, top), _x(0.05), _y(top, top), "guide")]
        parts += [_line(_x(0), _y(0.95, top), _x(1), _y(0.95, top), "guide")]
    for one in reversed(series):  # the first is drawn on top
        points = zip(one.curve.x.tolist(), one.curve.y.tolist(), strict=True)
        path = "L".join(f"{_x(x):.1f} {_y(y, top):.1f}" for x, y in points)
        parts.append(element("path", (), {"class": f"curve {palette(one.place)}", "d": f"M{path}"}))
        parts += [_mark(mark, one.place, top) for mark in one.marks]
    return _svg(_LEFT + _SIZE + _RIGHT, _TOP + _SIZE + _BOTTOM, parts, "chart")


def histogram_chart(title: str, description: str, shares: Histograms) -> Html:
    """Return a small chart: ID filled, OoD as an outline, the threshold of 95 % ID recall as a line."""
    width, height, foot = 200, 84, 14
    highest = max(shares.id.max(), shares.ood.max())
    step = width / len(shares.id)

    def outline(values: Sequence[float]) -> str:
        steps = [f"V{height - height * value / highest:.1f}H{step * (i + 1):.0f}" for i, value in enumerate(values)]
        return f"M0 {height}{''.join(steps)}V{height}"

    at = width * shares.threshold
    parts = [
        element("title", title),
        element("desc", description),
        element("path", (), {"class": "id", "d": outline(shares.id.tolist())}),
        element("path", (), {"class": "ood", "d": outline(shares.ood.tolist())}),
        _line(at, 0, at, height, "threshold"),
        _line(0, height, width, height, "axis"),
        _text(0, height + foot - 2, f"{shares.low:.3g}", "start"),
        _text(width, height + foot - 2, f"{shares.high:.3g}", "end"),
    ]
    return _svg(width, height + foot, parts, "histogram")


def legend(names: Sequence[tuple[str, int]], marks: Sequence[tuple[str, str]] = ()) -> Html:
    """Return the names of the lines beside a sample of each, and of the shapes that mark points."""
    lines = [(name, element("path", (), {"class": f"curve {palette(place)}", "d": "M1 7H25"})) for name, place in names]
    shapes = [(name, _shape(13, 7, shape, "plain")) for name, shape in marks]
    items = [
        element("li", [element("svg", sample, {"viewBox": "0 0 26 14", "aria-hidden": "true"}), name])
        for name, sample in lines + shapes
    ]
    return element("ul", items, {"class": "legend"})


def palette(place: int) -> str:
    """Return the classes of a place in the palette: colours first, then the same dashed, then dotted."""
    return f"c{place % COLOURS} d{min(place // COLOURS, 2)}"


def _frame(axes: tuple[str, str], top: float) -> list[Html]:
    parts = []
    for share in (0, 0.25, 0.5, 0.75, 1):
        x, y = _x(share), _y(share * top, top)
        parts.append(_line(x, _TOP, x, _TOP + _SIZE, "grid") + _line(_LEFT, y, _LEFT + _SIZE, y, "grid"))
        parts.append(_text(x, _TOP + _SIZE + 13, f"{100 * share:.0f}", "middle"))
        parts.append(_text(_LEFT - 5, y + 3.5, f"{100 * share * top:.3g}", "end"))
    middle = _TOP + _SIZE / 2
    turned = {"x": "0", "y": "0", "text-anchor": "middle", "transform": f"translate(10 {middle:g}) rotate(-90)"}
    parts.append(_text(_LEFT + _SIZE / 2, _TOP + _SIZE + 29, axes[0], "middle"))
    parts.append(element("text", axes[1], turned))
    return [Html(part) for part in parts]


def _x(share: float) -> float:
    return _LEFT + _SIZE * share


def _y(value: float, top: float) -> float:
    return _TOP + _SIZE * (1 - value / top)


def _mark(mark: Mark, place: int, top: float) -> Html:
    return _shape(_x(mark.x), _y(mark.y, top), mark.shape, f"c{place % COLOURS}")


def _shape(x: float, y: float, shape: str, css: str) -> Html:
    if shape == "circle":
        return element("circle", (), {"class": f"mark {css}", "cx": f"{x:.1f}", "cy": f"{y:.1f}", "r": "3.5"})
    corner = {"x": f"{x - 3.2:.1f}", "y": f"{y - 3.2:.1f}", "width": "6.4", "height": "6.4"}
    return element("rect", (), {"class": f"mark {css}", **corner})


def _line(x1: float, y1: float, x2: float, y2: float, css: str) -> Html:
    places = {"x1": x1, "y1": y1, "x2": x2, "y2": y2}
    return element("line", (), {"class": css, **{name: f"{place:.1f}" for name, place in places.items()}})


def _text(x: float, y: float, text: str, anchor: str) -> Html:
    return element("text", text, {"x": f"{x:.1f}", "y": f"{y:.1f}", "text-anchor": anchor})


def _svg(width: float, height: float, parts: Sequence[Html], css: str) -> Html:
    return element("svg", join(parts), {"viewBox": f"0 0 {width:g} {height:g}", "role": "img", "class": css})
