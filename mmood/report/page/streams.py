"""What test-time adaptive scores remembered, beside what it truly was."""

from __future__ import annotations

from collections.abc import Sequence

from mmood.report.page.html import NOTHING, Cell, Html, details, paragraph, section, table
from mmood.report.runs import Run
from mmood.results.blocks import percent
from mmood.results.protocol import StreamLine, stream_lines


def streams_section(runs: Sequence[Run]) -> Html | None:
    """Return counts and purity of the memories of each run; None if no run has any."""
    found = [(run, lines) for run in runs if (lines := stream_lines(run.results))]
    if not found:
        return None
    note = (
        "The memories of the scores at the end of a stream, averaged over its seeds. Purity is the share of the "
        "images stored as ID, or as OoD, that truly are; the scores never see it. Each score defines its own counts."
    )
    opened = len(found) == 1
    return section(
        "streams",
        "Streams",
        [paragraph(note, "note"), *(details(f"Memories of {run.name}", _table(lines), opened) for run, lines in found)],
    )


def _table(lines: Sequence[StreamLine]) -> Html:
    rows = [
        [
            Cell(line.score),
            Cell(line.set),
            *(cell for side in ("id", "ood") for cell in _side(line, side)),
            Cell(
                ", ".join(f"{name.replace('_', ' ')} {count:,.0f}" for name, count in line.counts.items()), css="long"
            ),
        ]
        for line in lines
    ]
    heads = ["Score", "Set", "Kept as ID", "truly ID, %", "Kept as OoD", "truly OoD, %", "Counts"]
    return table("Images in the memory and their purity", heads, rows)


def _counts(line: StreamLine) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {count:,.0f}" for name, count in line.counts.items())


def _side(line: StreamLine, side: str) -> list[Cell]:
    kept, pure = line.purity[side]
    shown = Cell(NOTHING, css="faint") if pure is None else Cell(percent(pure), pure)
    return [Cell(f"{kept:,.0f}", kept), shown]
