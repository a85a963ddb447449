"""Windows as a table and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from mmood.detector.conformal import Calibration
from mmood.detector.drift import Window

_HEADS = ("first", "images", "broken", "rejected", "95 % interval", "PSI", "KS", "p", "cosine", "energy p", "alarm")


def table(found: Sequence[Window]) -> list[str]:
    """Return the heads and a line for each window, in columns."""
    rows = [_HEADS, *(_cells(window) for window in found)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADS))]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]


def _cells(window: Window) -> tuple[str, ...]:
    return (
        str(window.first),
        str(window.images),
        str(window.broken),
        f"{window.rejected:.1%}",
        f"{window.low:.1%} to {window.high:.1%}",
        f"{window.psi:.3f}",
        f"{window.ks:.3f}",
        f"{window.ks_p:.2g}",
        "-" if window.cosine is None else f"{window.cosine:.4f}",
        "-" if window.energy_p is None else f"{window.energy_p:.2g}",
        ", ".join(window.alarms) or "-",
    )


def picture(found: Sequence[Window], calibration: Calibration) -> str:
    """Return an SVG of the rejected share of each window with its interval; windows that alarm are red."""
    width, height, left, floor = 720, 260, 50, 220
    most = max([0.1, *(window.high for window in found)])
    step = (width - left - 20) / max(1, len(found))

    def level(share: float) -> float:
        return floor - (floor - 20) * share / most

    expected = level(found[0].expected if found else 1 - calibration.id_recall)
    right = width - 20
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        'font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<line x1="{left}" x2="{right}" y1="{floor}" y2="{floor}" stroke="#888"/>',
        f'<line x1="{left}" x2="{right}" y1="{expected:.1f}" y2="{expected:.1f}" stroke="#333" '
        'stroke-dasharray="4 3"/>',
        f'<text x="{left}" y="14">Rejected share of each window (dashed: of ID images)</text>',
        f'<text x="{left - 6}" y="{floor}" text-anchor="end">0 %</text>',
        f'<text x="{left - 6}" y="{level(most) + 4:.1f}" text-anchor="end">{100 * most:.0f} %</text>',
    ]
    for number, window in enumerate(found):
        x = left + step * (number + 0.5)
        color = "#c62a2f" if window.alarms else "#3b6ea5"
        title = escape(f"from row {window.first}: {window.rejected:.1%}; alarm: {', '.join(window.alarms) or 'none'}")
        parts.append(
            f'<g stroke="{color}" fill="{color}"><title>{title}</title>'
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{level(window.low):.1f}" y2="{level(window.high):.1f}"/>'
            f'<circle cx="{x:.1f}" cy="{level(window.rejected):.1f}" r="4"/></g>'
        )
    last = f'<text x="{left}" y="{floor + 24}">{len(found)} windows, in their order; red: alarm</text></svg>'
    return "\n".join([*parts, last]) + "\n"
