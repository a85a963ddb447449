"""`mmood leaderboard`: a static site of many runs, its numbers computed from their raw scores."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from mmood.configuration.tools import ToolParser
from mmood.errors import MmoodError
from mmood.files import write_atomically
from mmood.leaderboard.board import Board, boards
from mmood.leaderboard.checking import Checked, check_run, check_together
from mmood.leaderboard.page import to_html
from mmood.output.escaping import visible
from mmood.output.printing import say
from mmood.report.runs import short_names
from mmood.settings import check_count

_EXAMPLES = """\
example:
  mmood leaderboard runs/*/version_0 --out site/

It writes site/index.html, one self-contained page, and site/leaderboard.json. The exit code is 1 if a run was refused,
because a score, a key or a number in it was changed, an image is missing, or it is no complete test; the page says why.
"""


def main(argv: Sequence[str]) -> int:
    """Run `mmood leaderboard` with the arguments after the command's name; return 1 if a run was refused, else 0."""
    options = _parser().parse_args(argv)
    check_count("--resamples", options.resamples, least=0)
    accepted, refused = sort_out(options.run)
    found = boards(accepted, options.resamples)
    command = f"mmood leaderboard {' '.join(shlex.quote(str(run)) for run in options.run)} --out {options.out}"
    page = to_html(found, refused, options.resamples, command)
    options.out.mkdir(parents=True, exist_ok=True)
    write_atomically(options.out / "index.html", page.encode())
    write_atomically(options.out / "leaderboard.json", _data(found, refused).encode())
    for name, reason in refused.items():
        print(visible(f"mmood: refused {name}: {reason}"), file=sys.stderr)
    lines = sum(len(board.lines) for board in found)
    counted = f"{lines} scores, {len(found)} board{'s' * (len(found) != 1)}"
    say(f"{options.out / 'index.html'}: {len(accepted)} of {len(options.run)} runs, {counted}")
    return 1 if refused else 0


def sort_out(folders: Sequence[Path]) -> tuple[list[Checked], dict[str, str]]:
    """Return the runs that are what they say, and for each other folder why it is refused."""
    absolute = [folder.absolute() for folder in folders]
    if len(set(absolute)) < len(absolute):
        raise MmoodError("A run folder is named twice; the runs of a leaderboard must be different.")
    checked, refused = [], {}
    for folder, name in zip(absolute, short_names(absolute), strict=True):
        try:
            checked.append(check_run(folder, name))
        except MmoodError as error:
            refused[name] = str(error)
    odd = {id(run): reason for run, reason in check_together(checked)}
    refused |= {run.run.name: odd[id(run)] for run in checked if id(run) in odd}
    return [run for run in checked if id(run) not in odd], refused


def _data(found: Sequence[Board], refused: dict[str, str]) -> str:
    content = {
        "schema": 1,
        "boards": [
            {
                "name": board.name,
                "id": {"set": board.id_set[0], "n": board.id_set[1]},
                "ood": [{"set": name, "group": group, "n": size} for name, (group, size) in board.sets.items()],
                "lines": [
                    {
                        "run": line.run.run.results.run,
                        "name": line.run.run.name,
                        "score": line.score,
                        "given": line.kind,
                        "accuracy": line.accuracy,
                        "places": {
                            place: {**asdict(one.rates), "seeds": one.seeds, "intervals": one.intervals}
                            for place, one in line.estimates.items()
                        },
                    }
                    for line in board.lines
                ],
            }
            for board in found
        ],
        "provenance": {
            line.run.run.results.run: line.run.run.results.provenance for board in found for line in board.lines
        },
        "refused": refused,
    }
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _parser() -> argparse.ArgumentParser:
    parser = ToolParser(
        "leaderboard",
        "Make a static site of many runs. Its numbers are computed from the raw scores in the run folders; a folder "
        "whose results are not those of its scores is refused.",
        examples=_EXAMPLES,
    )
    parser.add_argument("run", nargs="+", type=Path, help="run folder of `mmood test`")
    parser.add_argument("--out", type=Path, required=True, help="folder of the site")
    parser.add_argument(
        "--resamples", type=int, default=1000, help="bootstrap resamples; 0 for no intervals (default: %(default)s)"
    )
    return parser
