"""`mmood reproduce`: published tables, what they need, and the page that holds mmood's runs against them."""

from __future__ import annotations

import argparse
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mmood.configuration.tools import ToolParser
from mmood.errors import MmoodError
from mmood.files import write_atomically
from mmood.output.printing import complain, say
from mmood.published.model import PublishedTable
from mmood.published.registry import find_tables, registry

if TYPE_CHECKING:
    from mmood.reproduction.plan import Plan, Wishes

_EXAMPLES = """\
examples:
  mmood reproduce                                list the tables
  mmood reproduce neglabel --plan                what the tables of a paper need, what is missing, the commands
  mmood reproduce cma:1 --root data              run what is not done, and compare
  mmood reproduce mcm:main --root demo-world/data --model.encoder.name local-dir:demo-world/clip \\
      --stand_in imagenet=demo-test inaturalist=demo-far --data.class_names demo-world/data/classes.txt

All other flags go to the commands: those of `mmood test` to the stages, the rest to `mmood propose`. With stand-ins
there is no verdict. Exit code 0: the pages are written; 1: something is missing, and the plan says what.
"""
_WIDTH = 116


def main(argv: Sequence[str]) -> int:
    """Run `mmood reproduce` with the arguments after the command's name; return the exit code."""
    options, flags = _parser().parse_known_args(argv)
    if options.table is None:
        for line in _listing():
            say(line)
        return 0
    # Imported here: a list needs neither data nor models.
    from mmood.reproduction.plan import Wishes, make_plan

    out = options.out or Path("reproduce") / options.table.replace(":", "-")
    wishes = Wishes(options.root, out, dict(map(_pair, options.stand_in)), tuple(flags))
    tables = [table for table in find_tables(options.table) if table.protocols()]
    if not tables:
        raise MmoodError(f"mmood has no run for a row of {options.table}; `mmood reproduce` lists those that it has.")
    plans = [make_plan(table, registry(), wishes) for table in tables]
    _show(plans)
    ready = [plan for plan in plans if plan.is_ready]
    if len(ready) < len(plans):
        say("The lines `get` bring what is MISSING, weights with `mmood doctor`; then run the same command again.")
    code = _run(ready, wishes) if ready and not options.plan else 0
    return code or int(len(ready) < len(plans))


def run_command(arguments: list[str]) -> int:
    """Run `mmood` in a process of its own, as a user would; return its exit code."""
    return subprocess.run([sys.executable, "-m", "mmood", *arguments], check=False).returncode  # noqa: S603  # nosec B603


def _run(plans: Sequence[Plan], wishes: Wishes) -> int:
    from mmood.reproduction.comparing import outcomes
    from mmood.reproduction.page import pages, summary
    from mmood.reproduction.running import Record, run_steps

    record = Record(wishes)
    steps = list({step.id: step for plan in plans for step in plan.steps}.values())
    stopped = run_steps(steps, record, run_command, say)
    for plan in plans:
        found = outcomes(plan, wishes)
        stem = wishes.out / plan.table.id.replace(":", "-")
        for kind, text in pages(plan, found, wishes).items():
            write_atomically(stem.with_name(f"{stem.name}.{kind}"), text.encode())
        say(f"{plan.table.id}: {summary(found)}: {stem}.html, .md, .json")
    if stopped is not None:
        complain(stopped)
        return 1
    return 0


def _pair(text: str) -> tuple[str, str]:
    name, equals, own = text.partition("=")
    if not (name and equals and own):
        raise MmoodError(f"--stand_in has '{text}'; it must be PUBLISHED=OWN, such as sun=my-far.")
    return name, own


def _listing() -> Iterator[str]:
    for paper in registry().papers():
        tables = registry().of_paper(paper)
        yield f"{paper}: {tables[0].source}"
        for table in tables:
            yield from _wrapped(f"  {table.id:22} {_in_words(table)}", 25)
    yield ""
    yield "`mmood reproduce PAPER[:TABLE] --plan` says what a table needs; * has no run of mmood."


def _in_words(table: PublishedTable) -> str:
    runs = sum(row.protocol is not None for row in table.rows)
    rows = f"{len(table.rows)} row{'s' * (len(table.rows) != 1)}"
    held = "*" if not runs else "" if runs == len(table.rows) else f", {runs} with a run"
    return f"{table.title}; {table.model}; {rows}{held}"


def _show(plans: Sequence[Plan]) -> None:
    """Say what the tables need, each thing once, and which of them cannot be run yet."""
    for plan in plans:
        missing = "" if plan.is_ready else " (not run: see MISSING)"
        say(f"{plan.table.id}: {plan.table.title}; {plan.table.model}{missing}")
    for need in {need.what: need for plan in plans for need in plan.needs}.values():
        for line in _wrapped(f"  {'here   ' if need.here else 'MISSING'} {need.what}: {need.detail}", 12):
            say(line)
    for run, text in {run: text for plan in plans for run, text in plan.memory.items()}.items():
        for line in _wrapped(f"  memory  {run}: {text}", 12):
            say(line)
    for command in dict.fromkeys(command for plan in plans for command in plan.get):
        say(f"  get     {command}")
    for step in {step.id: step for plan in plans for step in plan.steps}.values():
        say(f"  run     {step.line()}")


def _wrapped(text: str, indent: int) -> list[str]:
    return textwrap.wrap(
        text, _WIDTH, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False,
        drop_whitespace=False,
    )  # fmt: skip


def _parser() -> argparse.ArgumentParser:
    parser = ToolParser(
        "reproduce",
        "Run published tables again: say what they need, run the commands, and write a page with published numbers, "
        "mmood's, the difference and a verdict. What is done is not done again.",
        usage="[PAPER[:TABLE]] [--root FOLDER] [flags of mmood test]",
        examples=_EXAMPLES,
    )
    parser.add_argument("table", nargs="?", metavar="PAPER[:TABLE]", help="a paper, or one of its tables")
    parser.add_argument("--root", default="data", help="folder of the sets (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="folder of runs and pages (default: reproduce/PAPER-TABLE)")
    parser.add_argument("--plan", action="store_true", help="only say what it needs and would run")
    parser.add_argument(
        "--stand_in", nargs="+", default=[], metavar="SET=OWN", help="sets that take the place of published ones"
    )
    return parser
