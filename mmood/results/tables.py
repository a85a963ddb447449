"""The results of a run as tables: for the screen, for a page, for a paper and for other programs.

Only `to_csv` keeps the raw numbers in [0, 1]; the others print per cent, mark the best static score of each column,
keep test-time adaptive scores apart, and say which FPR95 they show.
"""

from __future__ import annotations

from rich import box
from rich.table import Table
from rich.text import Text

from mmood.output.escaping import csv_text, for_latex, for_markdown, visible
from mmood.results.blocks import (
    AUROC,
    COLUMNS,
    FPR95_ID_POS,
    FPR95_OOD_POS,
    MEANING,
    PROTOCOLS,
    Block,
    Cell,
    Column,
    blocks,
    id_sentence,
)
from mmood.results.model import ROW_FIELDS, Results
from mmood.results.overlap import overlap_sentences
from mmood.results.protocol import protocol_sentences


def to_rich(results: Results) -> Table:
    """Return the table for a terminal of 80 columns or more: the scores side by side, set by set."""
    table = Table(
        title=_title(results),
        caption=Text("\n".join(map(visible, _legend(results, with_protocol=True)))),
        caption_justify="left",
        show_header=bool(results.rows),
        box=box.SIMPLE_HEAD,
    )
    table.add_column("Score", overflow="fold")
    for column in COLUMNS:
        table.add_column(f"{column.head} {_arrow(column)}\n{column.below}", justify="right", no_wrap=True)
    for protocol, name in PROTOCOLS.items():
        found = blocks(results, protocol)
        table.add_section()
        if found and protocol != "static":
            table.add_row(Text(name.upper(), "bold"))
        for block in found:
            table.add_section()
            table.add_row(Text.assemble((visible(block.name), "bold cyan"), "\n", (visible(block.note), "dim")))
            for label, cells in block.lines.items():
                table.add_row(Text(f"  {visible(label)}"), *map(_screen_cell, cells))
    return table


def _screen_cell(cell: Cell) -> Text:
    text = Text(cell.text, "bold green" if cell.best else "")
    return text if cell.spread is None else text.append(f"\n±{cell.spread}", "dim")


def to_markdown(results: Results) -> str:
    """Return a page with a table for the static scores, and one for the test-time adaptive scores if there are any."""
    heads = ("Set", "Score", *(f"{c.head} {c.below}".strip() + f" {_arrow(c)}" for c in COLUMNS))
    lines = [f"# {_title(results)}", "", *(f"- {for_markdown(said)}" for said in _legend(results, with_protocol=False))]
    for protocol, name in PROTOCOLS.items():
        found = blocks(results, protocol)
        if not found:
            continue
        if protocol != "static":
            said = [f"- {for_markdown(sentence)}" for sentence in protocol_sentences(results)]
            lines += ["", f"## {name.capitalize()}", "", *said]
        lines += ["", *_markdown_table(heads, found)]
        lines += ["", *(f"- {for_markdown(block.name)}: {for_markdown(block.note)}" for block in found)]
    return "\n".join([*lines, *([] if results.run is None else ["", f"<!-- run {results.run} -->"])]) + "\n"


def to_latex(results: Results, fpr: Column = FPR95_ID_POS) -> str:
    """Return a booktabs table as papers print it: a line for each score, two columns for each set and mean.

    Args:
        results: of a run.
        fpr: which FPR95 stands beside AUROC, `FPR95_ID_POS` or `FPR95_OOD_POS`; the caption says which.
    """
    found = {protocol: blocks(results, protocol) for protocol in PROTOCOLS}
    names = list(dict.fromkeys(block.name for of_protocol in found.values() for block in of_protocol))
    spans = "".join(rf"\cmidrule(lr){{{2 * i + 2}-{2 * i + 3}}}" for i in range(len(names)))
    said = [f"{_title(results)}, in per cent.", id_sentence(results), MEANING[fpr], *protocol_sentences(results)]
    caption = " ".join(said)
    lines = [
        *([] if results.run is None else [f"% run {results.run}"]),
        r"% needs \usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{for_latex(caption)}}}",
        rf"\begin{{tabular}}{{l{'rr' * len(names)}}}",
        r"\toprule",
        " & ".join(["", *(rf"\multicolumn{{2}}{{c}}{{{for_latex(name)}}}" for name in names)]) + r" \\",
        spans,
        " & ".join(["Score", *([r"FPR95$\downarrow$", r"AUROC$\uparrow$"] * len(names))]) + r" \\",
    ]
    for protocol, of_protocol in found.items():
        if of_protocol:
            lines.append(r"\midrule")
        if of_protocol and protocol != "static":
            lines.append(rf"\multicolumn{{{2 * len(names) + 1}}}{{l}}{{\emph{{{PROTOCOLS[protocol]}}}}} \\")
        lines += _latex_lines({block.name: block for block in of_protocol}, names, fpr)
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}"]) + "\n"


def to_csv(results: Results) -> str:
    """Return every row with its raw numbers in full precision; an empty field is a variant or seed it does not have."""
    return csv_text([[*ROW_FIELDS, "run"], *([*row.as_dict().values(), results.run] for row in results.rows)])


def _title(results: Results) -> str:
    return f"OoD detection, {results.stage}" + (" (partial: not a result)" if results.partial else "")


_MEANINGS = (
    MEANING[FPR95_ID_POS],
    MEANING[FPR95_OOD_POS],
    "Per cent; AUPR is average precision; means weight all sets equally.",
)


def _legend(results: Results, with_protocol: bool) -> list[str]:
    skipped = len(results.skipped)
    sentences = [
        id_sentence(results),
        f"Skipped because they could not be read: {skipped:,} image{'s' if skipped > 1 else ''}." if skipped else "",
        *overlap_sentences(results),
        *(_MEANINGS if results.rows else ("No OoD set is named in the data, so there are no OoD metrics.",)),
        *(protocol_sentences(results) if with_protocol else ()),
    ]
    return [sentence for sentence in sentences if sentence]


def _arrow(column: Column) -> str:
    return "↑" if column.higher_is_better else "↓"


def _markdown_table(heads: tuple[str, ...], found: list[Block]) -> list[str]:
    rows = [
        (for_markdown(block.name), for_markdown(label), *map(_markdown_cell, cells))
        for block in found
        for label, cells in block.lines.items()
    ]
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    rule = [":" + "-" * (w - 1) if i < 2 else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
    padded = [
        [text.ljust(w) if i < 2 else text.rjust(w) for i, (text, w) in enumerate(zip(row, widths, strict=True))]
        for row in [heads, *rows]
    ]
    return [f"| {' | '.join(row)} |" for row in [padded[0], rule, *padded[1:]]]


def _latex_lines(found: dict[str, Block], names: list[str], fpr: Column) -> list[str]:
    labels = dict.fromkeys(label for block in found.values() for label in block.lines)
    shown = COLUMNS.index(fpr), COLUMNS.index(AUROC)
    lines = []
    for label in labels:
        of_label = [found[name].lines.get(label) if name in found else None for name in names]
        numbers = [_latex_cell(cells[i]) if cells else "--" for cells in of_label for i in shown]
        lines.append(" & ".join([for_latex(label), *numbers]) + r" \\")
    return lines


def _markdown_cell(cell: Cell) -> str:
    text = f"**{cell.text}**" if cell.best else cell.text
    return text if cell.spread is None else f"{text} ± {cell.spread}"


def _latex_cell(cell: Cell) -> str:
    text = rf"\textbf{{{cell.text}}}" if cell.best else cell.text
    return text if cell.spread is None else rf"{text}\,$\pm$\,{cell.spread}"
