"""`mmood detect`: decisions of a detector on many images."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from mmood.configuration.tools import ToolParser
from mmood.output.printing import say

_EXAMPLES = """\
examples:
  mmood detect det PHOTOS --out decisions.csv
  mmood detect det 'camera/2026-*/*.jpg' more.png --out decisions.jsonl --fdr 0.05
  find . -name '*.jpg' | mmood detect det - --out decisions.parquet
  torchrun --nproc-per-node 4 -m mmood detect det SHARDS/imagenet --out decisions.csv

An input is a file, a folder, a pattern, a list (.txt, .tsv, .json), a folder of indexed shards, or - for
paths on stdin. Rows come in the order of the
inputs; an image that cannot be read has status `broken` and a reason. A killed job goes on when it is started again.
"""


def main(argv: list[str]) -> int:
    """Run `mmood detect` with the arguments after the command's name and return the exit code.

    Raises:
        MmoodError: the detector or an input is not there, or the file cannot be written.
    """
    options = _parser().parse_args(argv)
    from mmood.detector.detection import (
        Job,
        Ranks,
        Table,
        counts,
        find_images_of,
        job_memory,
        parts_folder,
        run_job,
    )
    from mmood.detector.loading import load_detector
    from mmood.detector.manifest import manifest_hash

    table = Table(options.out)
    images, passed_over = find_images_of(options.inputs, sys.stdin)
    if passed_over:
        say(str(passed_over))
    detector = load_detector(options.detector, options.device)
    job = Job(
        table=table,
        images=images,
        detector=detector,
        detector_sha256=manifest_hash(options.detector),
        batch_size=options.batch_size,
        threads=options.threads or os.cpu_count() or 1,
        fdr=options.fdr,
        embeddings=options.embeddings,
        memory=job_memory(detector, parts_folder(table), options.memory),
    )
    written = run_job(job, Ranks.of_environment(os.environ))
    if written is not None:
        say(counts(written))
        say(f"Decisions: {written}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = ToolParser(
        "detect",
        "Decide on images: accepted as one of the ID classes, or not, and with which score and p-value.",
        usage="DETECTOR INPUT [INPUT ...] --out FILE",
        examples=_EXAMPLES,
    )
    parser.add_argument("detector", type=Path, metavar="DETECTOR", help="folder of `mmood calibrate` or `mmood export`")
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="file, folder, pattern, list, folder of shards, -")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help=".csv, .jsonl or .parquet")
    parser.add_argument("--fdr", type=float, metavar="RATE",
                        help="add a column fdr_ood: OoD by Benjamini-Hochberg over all inputs, at this false-discovery "
                             "rate")  # fmt: skip
    parser.add_argument("--embeddings", action="store_true", help="keep embeddings beside FILE, for `mmood monitor`")
    parser.add_argument("--memory", type=Path, metavar="FILE",
                        help="for a test-time score: the memory to start from, if FILE exists, and where to save it "
                             "after the last image")  # fmt: skip
    parser.add_argument("--batch_size", type=int, default=64, help="images at a time (default: %(default)s)")
    parser.add_argument(
        "--threads", type=int, default=0, help="threads that read and decode images (default: one for each core)"
    )
    parser.add_argument("--device", help="torch device, such as cuda or cpu (default: a GPU if there is one)")
    return parser
