"""The results of an attack for the screen and as a page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

from rich import box
from rich.table import Table
from rich.text import Text

from mmood.output.escaping import for_markdown, visible
from mmood.report.page.html import NOTHING
from mmood.results.attack import AttackResults, AttackRow

HEADS = ("Images", "eps", "Set", "AUROC", "FPR95", "OoD accepted", "ID accepted", "hidden", "broken")
_NUMBERS = 3  # columns before the first number


def sentences(settings: Mapping[str, object]) -> list[str]:
    """Return what was done, and what the columns mean."""
    return [
        _what(settings),
        "AUROC and FPR95 (ID-pos) set the threshold anew on the images of the row; `OoD accepted` and `ID accepted` "
        "keep the clean one, which accepts 95 % of the clean ID images.",
        "hidden: of the OoD images rejected when clean, the share accepted when attacked; broken: of the ID images "
        "accepted when clean, the share rejected when attacked. Per cent.",
    ]


def _what(settings: Mapping[str, object]) -> str:
    steps = settings["steps"]
    if settings["method"] == "manipulation":
        return (
            f"PLP's manipulation of OoD images, {steps} steps, smoothness {settings['smoothness']:g}: nothing bounds "
            "the changes, so this is no robust accuracy at any radius."
        )
    many = f"{steps} steps, best of {settings['restarts']} random starts"
    how = "one step" if settings["method"] in ("noise", "fgsm") else many
    return (
        f"{str(settings['method']).upper()} ({settings['norm']}), {how}; eps is a radius for pixel values in [0, 1] "
        "after resize and crop, and holds for the stored 8-bit images."
    )


def to_rich(results: AttackResults) -> Table:
    """Return the table for a terminal of 80 columns or more."""
    table = Table(
        title="Attack",
        caption=Text("\n".join(map(visible, sentences(results.settings)))),
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=0,  # nine columns: the box leaves a blank between them
    )
    for number, head in enumerate(HEADS):
        table.add_column(head, justify="left" if number < _NUMBERS else "right", overflow="fold")
    for title, rows in _blocks(results.rows):
        table.add_section()
        table.add_row(Text(visible(title), "bold cyan"))
        for row in rows:
            table.add_row(*(Text(visible(cell)) for cell in _cells(row)))
    return table


def to_markdown(results: AttackResults) -> str:
    """Return a page with a table for each score."""
    lines = ["# Attack", "", *(f"- {for_markdown(said)}" for said in sentences(results.settings))]
    for title, rows in _blocks(results.rows):
        lines += ["", f"## {for_markdown(title)}", "", f"| {' | '.join(HEADS)} |"]
        lines.append("|" + ":---|" * _NUMBERS + "---:|" * (len(HEADS) - _NUMBERS))
        lines += [f"| {' | '.join(for_markdown(cell) for cell in _cells(row))} |" for row in rows]
    return "\n".join([*lines, "", f"<!-- run {results.run} -->"]) + "\n"


def _blocks(rows: Sequence[AttackRow]) -> Iterator[tuple[str, list[AttackRow]]]:
    """Yield a title and the rows of each score, clean ones first."""

    def block(row: AttackRow) -> tuple[str, str]:
        return row.detector or "", row.score

    order = {key: place for place, key in enumerate(dict.fromkeys(map(block, rows)))}
    for (detector, score), of_score in groupby(sorted(rows, key=lambda row: order[block(row)]), key=block):
        yield f"{score}, transferred to {detector}" if detector else score, list(of_score)


def _cells(row: AttackRow) -> list[str]:
    made_for = f" (for {row.attacked})" if row.attacked not in (None, row.score) or row.detector else ""
    side = "manipulated" if row.side != "clean" and row.eps is None else row.side
    numbers = (row.auroc, row.fpr95_id_pos, row.ood_accepted, row.id_accepted, row.hidden, row.broken)
    texts = [NOTHING if number is None else f"{100 * number:.2f}" for number in numbers]
    return [side + (made_for if row.side != "clean" and row.attacked else ""), row.eps or NOTHING, row.set, *texts]
