"""`mmood negatives`: mine the negative labels of a config's score and write them to a file."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.table import Table

from mmood.configuration.tools import ToolParser
from mmood.errors import MmoodError, unknown
from mmood.output.console import console
from mmood.output.escaping import visible
from mmood.output.printing import say
from mmood.words.lists import NegativeList, NegativePart


def main(arguments: list[str]) -> int:
    """Mine, print the farthest and the nearest words, write the list; returns the exit code."""
    options, rest = _parser().parse_known_args(arguments)
    if options.out.exists():
        raise MmoodError(f"--out {options.out} already exists; remove it or name another file.")
    found = _mined(rest, options.score)
    found.save(options.out)
    screen = console()
    for part in found.parts:
        screen.print(_table(part, options.show))
    say(f"{len(found)} negative labels, sha256 {found.content_hash[:16]}: {options.out}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = ToolParser(
        "negatives",
        "Mine the negative labels of a score in a config: `mmood negatives --config NAME --out FILE ...`. "
        "All other settings are those of `mmood test`.",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the JSON file to write")
    parser.add_argument("--score", metavar="NAME", help="a score of the config (default: the first that mines)")
    parser.add_argument(
        "--show", type=int, default=12, metavar="N", help="number of labels to print from each end (default: 12)"
    )
    return parser


def _mined(rest: list[str], wanted: str | None) -> NegativeList:
    from mmood.configuration.lightning import parsed
    from mmood.scores.negatives import AbstractMinedNegatives

    detector = parsed(rest).detector()
    mining = {name: score for name, score in detector.named_scores() if isinstance(score, AbstractMinedNegatives)}
    if wanted is not None and wanted not in mining:
        raise unknown("score with negative labels", wanted, mining)
    if not mining:
        raise MmoodError("model.scores has no score with negative labels; add one, such as {neglabel: NegLabel}.")
    score = mining[wanted] if wanted is not None else next(iter(mining.values()))
    score.fit(detector.reference())
    assert score.prototypes.list_ is not None
    return score.prototypes.list_


def _table(part: NegativePart, count: int) -> Table:
    table = Table(title=f"{len(part.words)} {part.kind}s", title_justify="left")
    for column in ("farthest from the ID classes", "", "nearest among the kept ones", ""):
        table.add_column(column, justify="right" if not column else "left")
    similarity = [f"{value:.3f}" for value in part.similarity] or [""] * len(part.words)
    rows = list(zip(map(visible, part.words), similarity, strict=True))
    for far, near in zip(rows[:count], reversed(rows[-count:]), strict=True):
        table.add_row(*far, *near)
    return table
