"""`mmood monitor`: whether the world has changed since a detector was calibrated."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from mmood.configuration.tools import ToolParser
from mmood.files import write_atomically
from mmood.output.printing import say

ALARM = 3

_EXAMPLES = """\
examples:
  mmood detect det TODAY --out today.csv --embeddings
  mmood monitor det today.csv --window 500 --out today.json
  mmood monitor det monday.csv tuesday.csv --false_alarms 0.02

Each window is compared with the calibration by up to three tests: the share of rejected images (beta-binomial), the
scores (Kolmogorov-Smirnov) and, where the decisions have embeddings, these (energy distance, by permutation). Together
they alarm on a window of ID images at most at the rate --false_alarms. The exit code is 3 if a window alarms, else 0.
"""


def main(argv: list[str]) -> int:
    """Run `mmood monitor` with the arguments after the command's name and return the exit code.

    Raises:
        MmoodError: the detector or the decisions are not there, or do not fit.
    """
    options = _parser().parse_args(argv)
    from mmood.detector.drift import Reference, windows
    from mmood.detector.drift_report import picture, table
    from mmood.detector.embeddings import read_embeddings
    from mmood.detector.manifest import check_files, read_manifest
    from mmood.detector.tables import Table

    manifest = read_manifest(options.detector)
    check_files(options.detector, manifest)
    assert manifest.calibration is not None, "a folder is of a calibrated detector"
    whole = all(Table(path).embeddings.is_file() for path in options.decisions)
    reference = Reference(
        manifest.calibration, read_embeddings(options.detector) if whole else None, options.false_alarms
    )
    found = list(windows(options.decisions, reference, options.window))
    if options.out is not None:
        document = {"schema": 1, "false_alarms": options.false_alarms, "windows": [w.as_dict() for w in found]}
        write_atomically(options.out, json.dumps(document, indent=1).encode() + b"\n")
        write_atomically(options.out.with_suffix(".svg"), picture(found, manifest.calibration).encode())
    for line in table(found):
        say(line)
    alarms = sum(bool(window.alarms) for window in found)
    without = "" if whole else " Embeddings were not compared: `mmood detect --embeddings` keeps them."
    say(f"{alarms} of {len(found)} windows alarm; of ID images at most {options.false_alarms:.1%} would.{without}")
    return ALARM if alarms else 0


def _parser() -> argparse.ArgumentParser:
    parser = ToolParser(
        "monitor",
        "Compare decisions, window by window, with the images that the detector was calibrated on.",
        usage="DETECTOR DECISIONS [DECISIONS ...] [--window N] [--out FILE]",
        examples=_EXAMPLES,
    )
    parser.add_argument("detector", type=Path, metavar="DETECTOR", help="folder of `mmood calibrate` or `mmood export`")
    parser.add_argument("decisions", type=Path, nargs="+", metavar="DECISIONS", help="of `mmood detect`, in order")
    parser.add_argument("--window", type=int, default=500, metavar="N", help="images of a window (default: 500)")
    parser.add_argument("--false_alarms", type=float, default=0.02, metavar="RATE",
                        help="share of windows of ID images that may alarm (default: %(default)s)")  # fmt: skip
    parser.add_argument("--out", type=Path, metavar="FILE", help="write JSON here, and a picture as .svg beside it")
    return parser
