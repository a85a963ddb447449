"""`mmood pack`: make, index and verify sets of shards. Starts without torch."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from mmood.classes.matching import table
from mmood.classes.names import load_class_names
from mmood.configuration.tools import ToolParser
from mmood.errors import MmoodError
from mmood.files import is_folder, user_path
from mmood.output.console import progress_bar
from mmood.output.printing import say
from mmood.shards.indexing import index_folder, verify_folder
from mmood.shards.inputs import FileInput, PackInput, from_folder, from_list, with_masks
from mmood.shards.labels import label_source
from mmood.shards.locations import check_set_name
from mmood.shards.masks import MaskLabelList
from mmood.shards.packing import PackSettings, pack
from mmood.shards.passed_over import PassedOver
from mmood.shards.shard_index import ShardIndex, shard_files
from mmood.shards.torchvision_input import from_torchvision

_EXAMPLES = """\
examples:
  mmood pack --out data/pets --folder pets/images          one subfolder per class, or images without labels
  mmood pack --out data/ninco --list test_ninco.txt --images images_largescale
  mmood pack --out data/street --folder images --masks labels --classes labels.txt --ignore_labels 255
  mmood pack --out data/cifar10 --torchvision CIFAR10 --split test --images downloads --download
  mmood pack --index data/id-test data/near-ood            index existing shards
  mmood pack --verify data/id-test                         compare the shards with their hashes

Class folders named like their classes get the labels of the class names; others are sorted, and mismatches are shown.
Links are followed; hidden and system files are skipped, and what is skipped is counted. A killed run resumes when it is
started again. The same input gives the same bytes.
"""


def main(argv: list[str]) -> int:
    """Run `mmood pack` with the arguments after the command's name and return the exit code.

    Raises:
        MmoodError: the input cannot be packed, or the output is there already.
    """
    options = _parser().parse_args(argv)
    if options.masks is not None and not (options.folder or options.list):
        raise MmoodError("`--masks` goes with `--folder` or `--list`.")
    if options.ignore_labels and options.masks is None:
        raise MmoodError("`--ignore_labels` is about masks; name their folder with `--masks`.")
    if options.index or options.verify:
        for folder in options.index or options.verify:
            _index_or_verify(folder, options)
        return 0
    if options.out is None:
        raise MmoodError("`--out ROOT/NAME` is not set; name the folder of the new set.")
    out = options.out.resolve()
    check_set_name(out.name)
    samples = _input(options)
    settings = PackSettings(options.shard_size, options.source, options.shuffle, not options.no_check)
    with progress_bar(f"packing {out.name}", len(samples), options.quiet, late=True) as bar:
        index = pack(samples, out, settings, bar.advance)
    passed_over = samples.passed_over if isinstance(samples, FileInput) else PassedOver()
    _report(index, options.out, passed_over, masks=options.masks is not None)
    if isinstance(samples, FileInput) and samples.classes is not None:
        for line in table(samples.classes):
            say(line)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = ToolParser(
        "pack",
        "Make sets of shards (tar files with an index.json), index existing shards, or verify them.",
        usage="--out ROOT/NAME (--folder DIR | --list FILE | --torchvision CLASS) [flags]\n"
        "       mmood pack (--index | --verify) DIR [DIR ...]",
        examples=_EXAMPLES,
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--folder", type=user_path, help="pack a folder of images; its subfolders are classes")
    what.add_argument("--list", type=user_path, help="pack the images of a list: lines `path label` or paths")
    what.add_argument("--torchvision", metavar="CLASS", help="pack a set of torchvision.datasets, stored as PNG")
    what.add_argument("--index", nargs="+", type=user_path, metavar="DIR", help="write index.json and samples.jsonl "
                      "for shards")  # fmt: skip
    what.add_argument("--verify", nargs="+", type=user_path, metavar="DIR", help="compare the shards with the hashes "
                      "of their index")  # fmt: skip
    parser.add_argument(
        "--out",
        type=user_path,
        metavar="ROOT/NAME",
        help="folder of the new set, called like the set",
    )
    parser.add_argument("--images", type=user_path, default=Path(), help="base folder of --list, or of "
                        "torchvision's files (default: .)")  # fmt: skip
    parser.add_argument("--split", default="test", help="split of the torchvision set (default: %(default)s)")
    parser.add_argument("--download", action="store_true", help="let torchvision download its files first")
    parser.add_argument("--classes", metavar="FILE", help="a file of class names, or a known list")
    parser.add_argument("--masks", type=user_path, metavar="DIR", help="masks of --folder or --list: PNG files called "
                        "like their images; --classes then names their labels")  # fmt: skip
    parser.add_argument("--ignore_labels", type=int, nargs="+", metavar="N", help="further labels that masks may have")
    parser.add_argument("--labels", type=label_source, metavar="MEMBER", help="where the samples of --index have their "
                        "labels: cls, txt or json:KEY (default: cls, or a usual key of json)")  # fmt: skip
    parser.add_argument("--source", default="", help="where the images come from; kept in the index")
    parser.add_argument(
        "--shard_size", "--shard-size", type=int, default=5000, help="samples per shard (default: %(default)s)"
    )
    parser.add_argument("--shuffle", type=int, metavar="SEED", help="pack in a random order fixed by this seed, which "
                        "a training set needs")  # fmt: skip
    parser.add_argument("--no_check", action="store_true", help="read only the headers of the images: faster, but "
                        "truncated images are not found")  # fmt: skip
    parser.add_argument("--quiet", action="store_true", help="show no progress bar")
    return parser


def _input(options: argparse.Namespace) -> PackInput:
    names = _class_names(options.classes)
    if options.masks is not None:
        return _masked(options, MaskLabelList(tuple(names), frozenset(options.ignore_labels or ())))
    if options.folder:
        return from_folder(options.folder, names)
    if options.list:
        return from_list(options.list, options.images, names)
    return from_torchvision(options.torchvision, options.split, options.images, options.download)


def _masked(options: argparse.Namespace, labels: MaskLabelList) -> PackInput:
    masks: Path = options.masks
    if options.list:
        return with_masks(from_list(options.list, options.images), masks, labels)
    if masks.resolve().is_relative_to(options.folder.resolve()):
        raise MmoodError(
            f"The masks in {masks} lie in the folder of the images, {options.folder}; move them beside it."
        )
    return with_masks(from_folder(options.folder, mixed=True), masks, labels)


def _index_or_verify(given: Path, options: argparse.Namespace) -> None:
    folder = given.resolve()
    size = sum(shard.stat().st_size for shard in shard_files(folder)) if is_folder(folder) else 0
    title = f"{'indexing' if options.index else 'verifying'} {folder.name}"
    with progress_bar(title, size, options.quiet, in_bytes=True, late=True) as bar:
        if options.verify:
            index, passed_over = verify_folder(folder, bar.advance), PassedOver()
        else:
            names = _class_names(options.classes)
            indexed = index_folder(folder, names, options.source, bar.advance, options.labels)
            index, passed_over = indexed.index, indexed.passed_over
    _report(index, given, passed_over)


def _class_names(source: str | None) -> Sequence[str]:
    return () if source is None else load_class_names(source)


def _counted(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"


def _report(index: ShardIndex, folder: Path, passed_over: PassedOver, masks: bool = False) -> None:
    unlabelled = "a mask for each" if masks else "no labels"
    labels = unlabelled if index.classes is None else _counted(index.classes, "class", "classes")
    samples, shards = _counted(index.count, "sample", "samples"), _counted(len(index.shards), "shard", "shards")
    say(f"{folder}: {samples} in {shards}, {labels}, index {index.hash[:16]}")
    if passed_over:
        say(str(passed_over))
