"""`mmood report`: several runs on one page, and their numbers as Markdown, LaTeX and CSV."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mmood.configuration.tools import ToolParser
from mmood.errors import MmoodError
from mmood.files import write_atomically
from mmood.output.printing import say
from mmood.report.files import report_csv, report_latex, report_markdown
from mmood.report.page.document import to_html
from mmood.report.runs import load_runs
from mmood.report.seeds import group_seeds
from mmood.report.summary import summarise
from mmood.report.uncertainty import Uncertainty
from mmood.results.overlap import run_overlaps
from mmood.results.protocol import run_protocols
from mmood.settings import check_count

_EXAMPLE = """\
example:
  mmood report runs/zeroshot/version_0 runs/align/version_0 --out report.html
"""


def main(argv: Sequence[str]) -> int:
    """Run `mmood report` with the arguments after the command's name; return the exit code."""
    options = _parser().parse_args(argv)
    for path in write_report(options.run, options.out or options.run[0] / "report.html", options.resamples):
        say(str(path))
    return 0


def write_report(folders: Sequence[Path], out: Path, resamples: int = 1000) -> list[Path]:
    """Write the page to `out`, and `.md`, `.tex` and `.csv` beside it; return the paths.

    Args:
        folders: run folders. The first is what the others are compared with.
        out: file of the page; its name ends in `.html`.
        resamples: of the bootstrap; 0 for no intervals.

    Raises:
        MmoodError: a folder holds no results, a file in it is broken, or `out` is no `.html` or cannot be written.
    """
    if out.suffix != ".html":
        raise MmoodError(f"--out is {out}; it must end in .html, since .md, .tex and .csv are written beside it.")
    check_count("--resamples", resamples, least=0)
    runs = load_runs(folders)
    if empty := [run.name for run in runs if not run.results.rows]:
        raise MmoodError(f"The run {empty[0]} has no OoD results; `mmood test` with at least one OoD set writes them.")
    uncertainty = Uncertainty(runs, resamples)
    summary = summarise(group_seeds(runs), uncertainty)
    for warning in summary.warnings:
        print(f"mmood: {warning}", file=sys.stderr)
    by_name = {run.name: run.results for run in runs}
    notes = [*run_overlaps(by_name), *run_protocols(by_name)]
    texts = {
        out: to_html(runs, summary, uncertainty),
        out.with_suffix(".md"): report_markdown(summary, resamples, notes),
        out.with_suffix(".tex"): report_latex(summary),
        out.with_suffix(".csv"): report_csv(summary),
    }
    for path, text in texts.items():
        write_atomically(path, text.encode())
    return list(texts)


def _parser() -> argparse.ArgumentParser:
    parser = ToolParser(
        "report",
        "Compare several runs on one page: numbers with intervals, paired comparisons, curves, the hardest images and "
        "the settings. The page is one self-contained file; .md, .tex and .csv files are written beside it.",
        examples=_EXAMPLE,
    )
    parser.add_argument("run", nargs="+", type=Path, help="run folder; the others are compared with the first")
    parser.add_argument("--out", type=Path, help="file of the page (default: report.html in the first run folder)")
    parser.add_argument(
        "--resamples",
        type=int,
        default=1000,
        help="number of bootstrap resamples; 0 for no intervals (default: %(default)s)",
    )
    return parser
