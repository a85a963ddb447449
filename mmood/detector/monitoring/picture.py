"""The picture of `mmood monitor`: each window beside the calibration, as an SVG file that loads nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmood.detector.monitoring.monitor import Finding, Reference, Rule
from mmood.files import write_atomically
from mmood.report.page.html import Html, element

_LEFT, _RIGHT, _HEIGHT, _GAP, _TOP = 64, 16, 130, 44, 44
_TESTS = {"share below": "#0072b2", "scores": "#d55e00", "embeddings": "#009e73"}
_LEAST = 1e-4  # p-values below it are drawn there
_NAMED = 24  # windows whose names fit
_STYLE = """
text { font: 12px system-ui, sans-serif; fill: #1b1b1f } .small { font-size: 10.5px; fill: #5d5d66 }
.title { font-weight: 600 } .axis { stroke: #1b1b1f } .guide { stroke: #5d5d66; stroke-dasharray: 5 4 }
.alarm { fill: #fbdcd3 } .mark { fill: #1b1b1f } .bar { stroke: #1b1b1f; stroke-width: 2 }
.usual { fill: #e7eef4 }
"""


@dataclass(frozen=True)
class _Panel:
    """One of the stacked plots: `low` to `high` of a quantity over the windows."""

    top: float
    low: float
    high: float
    width: float
    windows: int

    def x(self, window: int) -> float:
        return _LEFT + self.width * (window + 0.5) / self.windows

    def y(self, value: float) -> float:
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return self.top + _HEIGHT * (1 - share)

    def across(self, value: float, css: str) -> Html:
        return _line(_LEFT, self.y(value), _LEFT + self.width, self.y(value), css)

    def interval(self, window: int, low: float, middle: float, high: float) -> list[Html]:
        x = self.x(window)
        return [_line(x, self.y(low), x, self.y(high), "bar"), _dot(x, self.y(middle), "#1b1b1f")]

    def frame(self, title: str, ticks: Sequence[float], shown: Callable[[float], str]) -> list[Html]:
        parts = [_text(_LEFT, self.top - 8, title, "start", "title")]
        for tick in ticks:
            parts.append(_text(_LEFT - 6, self.y(tick) + 4, shown(tick), "end", "small"))
        axis = _line(_LEFT, self.top, _LEFT, self.top + _HEIGHT, "axis")
        return [*parts, axis, self.across(self.low, "axis")]


def write_picture(path: Path, findings: Sequence[Finding], reference: Reference, rule: Rule) -> None:
    """Write the picture of windows: share below the threshold, scores, and adjusted p-values."""
    width = float(min(1600, max(480, 40 * len(findings))))
    panels = [
        _shares(findings, _top(0), width, reference),
        _scores(findings, _top(1), width, reference),
        _p_values(findings, _top(2), width, rule),
    ]
    height = _top(3) + (110 if len(findings) <= _NAMED else 0)
    alarms = sum(finding.alarm for finding in findings)
    title = f"{len(findings)} windows of decisions by {reference.score}, {alarms} with an alarm"
    behind = _behind(findings, width)
    parts = [element("title", title), element("style", Html(_STYLE)), _white(width, height), *behind]
    parts += [_text(_LEFT, 16, title, "start", "title"), *(part for panel in panels for part in panel)]
    parts += _names(findings, width)
    size = f"{_LEFT + width + _RIGHT:g} {height:g}"
    attributes = {"xmlns": "http://www.w3.org/2000/svg", "viewBox": f"0 0 {size}", "role": "img"}
    attributes |= dict(zip(("width", "height"), size.split(), strict=True))
    write_atomically(path, element("svg", parts, attributes).encode())


def _shares(findings: Sequence[Finding], top: float, width: float, reference: Reference) -> list[Html]:
    expected = reference.calibration.rank / (len(reference.calibration.scores) + 1)
    highest = max([2 * expected, *(finding.below.high for finding in findings if finding.below)])
    panel = _Panel(top, 0, highest, width, len(findings))
    title = (
        f"Share below the threshold, with its exact 95 % interval (dashed: at most {expected:.1%} by the calibration)"
    )
    parts = [*panel.frame(title, (0, highest / 2, highest), "{:.0%}".format), panel.across(expected, "guide")]
    for place, finding in enumerate(findings):
        if finding.below:
            parts += panel.interval(place, finding.below.low, finding.below.share, finding.below.high)
    return parts


def _scores(findings: Sequence[Finding], top: float, width: float, reference: Reference) -> list[Html]:
    usual = [float(value) for value in np.quantile(reference.calibration.scores, (0.05, 0.5, 0.95))]
    seen = [value for finding in findings if finding.scores for value in finding.scores.quantiles] + usual
    margin = 0.05 * (max(seen) - min(seen)) or 1.0
    panel = _Panel(top, min(seen) - margin, max(seen) + margin, width, len(findings))
    low, high = panel.y(usual[0]), panel.y(usual[2])
    box = {"x": f"{_LEFT}", "y": f"{high:.1f}", "width": f"{width:g}", "height": f"{low - high:.1f}", "class": "usual"}
    title = "Scores: median, 5 % and 95 % (blue and dashed: those of the calibration)"
    parts = [element("rect", (), box), *panel.frame(title, usual, "{:.3g}".format), panel.across(usual[1], "guide")]
    for place, finding in enumerate(findings):
        if finding.scores:
            parts += panel.interval(place, *finding.scores.quantiles)
    return parts


def _p_values(findings: Sequence[Finding], top: float, width: float, rule: Rule) -> list[Html]:
    panel = _Panel(top, math.log10(_LEAST), 0, width, len(findings))
    title = f"p-values after Holm's correction; an alarm at {rule.false_alarms:g} (dashed):"
    parts = panel.frame(title, (-4, -3, -2, -1, 0), lambda power: f"{10**power:g}")
    parts.append(panel.across(math.log10(rule.false_alarms), "guide"))
    for number, (test, colour) in enumerate(_TESTS.items()):
        x, y = _LEFT + 100 * number, top + _HEIGHT + 14
        parts += [_dot(x + 4, y - 4, colour), _text(x + 12, y, test, "start", "small")]
        for place, finding in enumerate(findings):
            if test in finding.adjusted:
                height = panel.y(math.log10(max(finding.adjusted[test], _LEAST)))
                parts.append(_dot(panel.x(place) + 5 * (number - 1), height, colour))
    return parts


def _behind(findings: Sequence[Finding], width: float) -> list[Html]:
    """Return a red column behind each window with an alarm."""
    step = width / len(findings)
    box = {"y": f"{_TOP}", "width": f"{step:.2f}", "height": f"{_top(2) + _HEIGHT - _TOP:g}", "class": "alarm"}
    return [
        element("rect", (), {"x": f"{_LEFT + step * place:.2f}", **box})
        for place, finding in enumerate(findings)
        if finding.alarm
    ]


def _names(findings: Sequence[Finding], width: float) -> list[Html]:
    if len(findings) > _NAMED:
        return []
    top = _top(3) - 16
    parts = []
    for place, finding in enumerate(findings):
        x = _LEFT + width * (place + 0.5) / len(findings) + 4
        turned = {"class": "small", "text-anchor": "end", "transform": f"translate({x:.1f} {top:g}) rotate(-60)"}
        parts.append(element("text", finding.window[-22:], turned))
    return parts


def _top(panel: int) -> float:
    return _TOP + panel * (_HEIGHT + _GAP)


def _white(width: float, height: float) -> Html:
    return element("rect", (), {"width": f"{_LEFT + width + _RIGHT:g}", "height": f"{height:g}", "fill": "#fff"})


def _line(x1: float, y1: float, x2: float, y2: float, css: str) -> Html:
    ends = {"x1": x1, "y1": y1, "x2": x2, "y2": y2}
    return element("line", (), {name: f"{value:.1f}" for name, value in ends.items()} | {"class": css})


def _dot(x: float, y: float, colour: str) -> Html:
    return element("circle", (), {"cx": f"{x:.1f}", "cy": f"{y:.1f}", "r": "3.5", "fill": colour})


def _text(x: float, y: float, text: str, anchor: str, css: str) -> Html:
    return element("text", text, {"x": f"{x:.1f}", "y": f"{y:.1f}", "text-anchor": anchor, "class": css})
