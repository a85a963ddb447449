"""`mmood monitor`: whether the images of today are still those that a detector was calibrated for."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from mmood.configuration.tools import ToolParser
from mmood.errors import MmoodError
from mmood.output.printing import say

if TYPE_CHECKING:
    from mmood.detector.monitoring import Finding

ALARM = 3

_EXAMPLES = """\
examples:
  mmood detect det PHOTOS/monday --out monday.csv --embeddings
  mmood monitor det monday.csv --out monday-drift.json
  mmood monitor det week/*.csv --window 500 --false_alarms 0.001 || mail -s drift me@example.org < /dev/null

A window is a file, or --window rows of one. Three tests compare it with the calibration images: the share below the
threshold (beta-binomial, one-sided), the scores (Kolmogorov-Smirnov), and the embeddings, where `mmood detect
--embeddings` kept them (energy distance, by permutation, of at most 500 images). There is an alarm where a
p-value is at most --false_alarms after Holm's correction: of windows that are drawn as the calibration images were, at
most that share raise one. PSI and cosine show the size of a change, beside what they usually are without any.
Exit code 3: an alarm.
"""


def main(argv: list[str]) -> int:
    """Run `mmood monitor` with the arguments after the command's name and return the exit code: 3 for an alarm.

    Raises:
        MmoodError: the detector or a file is not there, or the decisions are those of another detector.
    """
    options = _parser().parse_args(argv)
    from mmood.detector.monitoring import Reference, Rule, monitor, write_findings, write_picture

    rule = Rule(options.false_alarms, options.seed)
    if options.out is not None and options.out.suffix != ".json":
        raise MmoodError(
            f"--out is {options.out}; it must end in .json, since the picture is written beside it as .svg."
        )
    reference = Reference.read(options.detector)
    findings = monitor(reference, options.decisions, options.window, rule)
    _show(findings)
    if options.out is not None:
        picture = options.out.with_suffix(".svg")
        write_findings(options.out, findings, reference, rule)
        write_picture(picture, findings, reference, rule)
        say(f"Findings: {options.out}")
        say(f"Picture: {picture}")
    return ALARM if any(finding.alarm for finding in findings) else 0


def _show(findings: list[Finding]) -> None:
    from mmood.detector.monitoring import conclusion, to_rich
    from mmood.output.console import console

    console().print(to_rich(findings))
    for sentence in conclusion(findings):
        say(sentence)


def _parser() -> argparse.ArgumentParser:
    parser = ToolParser(
        "monitor",
        "Compare windows of decisions with the images that the detector was calibrated on.",
        usage="DETECTOR DECISIONS [DECISIONS ...] [--out FILE.json]",
        examples=_EXAMPLES,
    )
    parser.add_argument("detector", type=Path, metavar="DETECTOR", help="the detector that made the decisions")
    parser.add_argument("decisions", nargs="+", type=Path, metavar="DECISIONS", help="files of `mmood detect`")
    parser.add_argument("--window", type=int, metavar="ROWS", help="rows of a window (default: all of a file)")
    parser.add_argument("--false_alarms", type=float, default=0.01, metavar="SHARE",
                        help="of windows without a change, at most this share raise an alarm "
                             "(default: %(default)s)")  # fmt: skip
    parser.add_argument("--out", type=Path, metavar="FILE", help=".json; a picture (.svg) is written beside it")
    parser.add_argument("--seed", type=int, default=0, help="seed of the permutations (default: %(default)s)")
    return parser
