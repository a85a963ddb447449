"""`mmood calibrate`: from the settings of a test to a detector folder."""

from __future__ import annotations

import argparse
from pathlib import Path

from mmood.configuration.early_checks import check_arguments
from mmood.configuration.tools import ToolParser
from mmood.output.printing import say

_EXAMPLES = """\
examples:
  mmood calibrate --config vitb16_zeroshot.yaml --data.root DATA --score mcm --fraction 0.5 --out det
  mmood calibrate --ckpt_path runs/plp/0/checkpoints/last.ckpt --score energy --id_recall 0.99 --out det
  mmood detect det PHOTOS --out decisions.csv

All other flags are those of `mmood test`. The ID images are those of `data.val.id`, else of `data.id`; no OoD image is
read. --fraction 0.5 takes half of them, by a hash of the key, and leaves the others for a test.
"""


def main(argv: list[str]) -> int:
    """Run `mmood calibrate` with the arguments after the command's name and return the exit code.

    Raises:
        MmoodError: settings are wrong, the score cannot be shipped, or the ID images give no threshold.
    """
    options, rest = _parser().parse_known_args(argv)
    from mmood.detector.building.request import Request

    request = Request(options.out, options.score, options.id_recall, options.fraction, options.weights == "copy")
    check_arguments("test", [*rest, *(["--ckpt_path", options.ckpt_path] if options.ckpt_path else [])])
    from mmood.detector.building.calibrate import calibrate_detector

    for line in calibrate_detector(rest, request, options.ckpt_path):
        say(line)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = ToolParser(
        "calibrate",
        "Write a detector: a score with a threshold that accepts a stated share of new ID images.",
        usage="--config NAME --out DETECTOR [--score NAME] [--id_recall SHARE] [flags of mmood test]",
        examples=_EXAMPLES,
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="the detector, a new folder")
    parser.add_argument("--score", metavar="NAME", help="a score of the config (default: the only one)")
    parser.add_argument("--id_recall", type=float, default=0.95, metavar="SHARE",
                        help="share of new ID images to accept, at least (default: %(default)s)")  # fmt: skip
    parser.add_argument("--fraction", type=float, default=1.0, metavar="SHARE",
                        help="share of the ID images to calibrate on (default: all)")  # fmt: skip
    parser.add_argument("--weights", choices=["copy", "name"], default="copy",
                        help="put the tower's weights inside, or load them by name and check their sha256 "
                             "(default: %(default)s)")  # fmt: skip
    parser.add_argument("--ckpt_path", metavar="FILE", help="a trained model; brings its settings along")
    return parser
