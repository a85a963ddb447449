"""`mmood export`: a detector as an ONNX graph, which runs without torch."""

from __future__ import annotations

import argparse
from pathlib import Path

from mmood.configuration.tools import ToolParser
from mmood.output.printing import say

_EXAMPLES = """\
examples:
  mmood export det --out det-onnx                        checked on images of the calibration set
  mmood export det --out det-onnx --images PHOTOS        or on others
  mmood export det --out det-int8 --quantise int8
  mmood detect det-onnx PHOTOS --out decisions.csv

The graph is the tower, the head and the score, for any number of images; transform and threshold are in detector.json
beside it. Every command that takes a detector takes it; it needs numpy, Pillow and onnxruntime, but no torch.
"""


def main(argv: list[str]) -> int:
    """Run `mmood export` with the arguments after the command's name and return the exit code.

    Raises:
        MmoodError: the detector is not there, its score has no graph, or the graph gives other scores.
    """
    options = _parser().parse_args(argv)
    from dataclasses import replace

    from mmood.detector.building.export import TOLERANCES, export_detector
    from mmood.detector.detection import images_to_check
    from mmood.detector.detector import Detector

    tolerance = TOLERANCES[options.quantise]
    if options.tolerance is not None:
        tolerance = replace(tolerance, relative=options.tolerance)
    detector = Detector.load(options.detector, "cpu")
    images = images_to_check(options.images, detector.manifest.provenance)
    difference = export_detector(detector, options.out, images, options.quantise, tolerance)
    differ = f"scores differ by up to {difference.score:.2g}, and {difference.decisions} decisions differ"
    say(f"Over {difference.images} images, {differ}.")
    say(f"Detector: {options.out}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = ToolParser(
        "export",
        "Write a detector as an ONNX graph of tower and score, checked on real images.",
        usage="DETECTOR --out FOLDER [--images INPUT ...] [--quantise int8]",
        examples=_EXAMPLES,
    )
    parser.add_argument("detector", type=Path, metavar="DETECTOR", help="folder of `mmood calibrate`")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="the exported detector, a new folder")
    parser.add_argument("--images", nargs="+", metavar="INPUT",
                        help="real images to check it on (default: those of the calibration set)")  # fmt: skip
    parser.add_argument("--quantise", choices=["float32", "int8"], default="float32",
                        help="precision of the weights (default: %(default)s)")  # fmt: skip
    parser.add_argument("--tolerance", type=float, metavar="SHARE",
                        help="largest difference of a score, as a share of the spread of the calibration scores "
                             "(default: 0.001, with int8 1)")  # fmt: skip
    return parser
