"""`mmood embed`: encode every set of a config once, so that later runs read features in place of images."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace

from lightning.pytorch import Trainer

from mmood.configuration.lightning import parsed
from mmood.configuration.on_ranks import run_on_ranks
from mmood.configuration.tools import ToolParser
from mmood.data.datamodule import OoDDataModule
from mmood.encoders import AbstractEncoder
from mmood.errors import MmoodError, unknown
from mmood.features.encoding import CHUNK, Ranks, SetEncoder
from mmood.features.provider import MOST_IMAGES
from mmood.features.store import DTYPES, Dtype
from mmood.features.stores import OFF, FeatureStores
from mmood.output.printing import say
from mmood.sets.places import set_name
from mmood.shards.index import SetIndex

_EXAMPLES = """\
examples:
  mmood embed --config vitb16_plp.yaml --data.root DATA              every set of the config, to the cache
  mmood embed --config vitb16_plp.yaml --sets imagenet sun --dtype fp16
  mmood embed --config vitb16_plp.yaml --data.features FOLDER        to a folder that test and fit are given too

All other flags are those of `mmood test`. The cache is $MMOOD_CACHE/features, or ~/.cache/mmood/features. A killed run
resumes when it is started again.
"""


def main(argv: list[str]) -> int:
    """Run `mmood embed` with the arguments after the command's name and return the exit code.

    Raises:
        MmoodError: a set is unknown or broken, a feature is not finite, or stores are switched off.
    """
    options, rest = _parser().parse_known_args(argv)
    cli = parsed(rest)
    data = cli.data_module()
    if data.features == OFF:
        raise MmoodError("`data.features` is off, but `mmood embed` writes features; set it to auto or a folder.")
    job = Job(_chosen(data, options.sets), options.dtype, options.chunk, options.quiet)
    encoder = cli.detector().encoder
    run_on_ranks(cli, [encoder], lambda trainer: _encode(encoder, data, job, trainer))
    return 0


@dataclass(frozen=True)
class Job:
    """What to encode.

    Attributes:
        sets: index of each set by name.
        dtype: type on disk.
        chunk: images per chunk, rounded up to whole batches.
        quiet: show no progress.
    """

    sets: dict[str, SetIndex]
    dtype: Dtype
    chunk: int
    quiet: bool


def _encode(encoder: AbstractEncoder, data: OoDDataModule, job: Job, trainer: Trainer) -> None:
    """Encode every set of a job."""
    stores = FeatureStores(data.features)
    encoder.resize_by(data.resize)
    plain = SetEncoder(
        encoder,
        Ranks.of(trainer),
        min(data.batch_size, MOST_IMAGES),
        data.loader,
        quiet=job.quiet,
        exif=data.exif or "ignore",
    )
    for name, index in job.sets.items():
        corruption = data.corruptions.of(set_name(name))
        sets = plain if corruption is None else replace(plain, corruption=corruption)
        folder = stores.folder(index, sets.identity(index), job.dtype)
        store = sets.encode(index, folder, job.dtype, job.chunk)
        if trainer.is_global_zero:
            say(f"{name}: {len(store.label)} images, {job.dtype}, {folder}")


def _parser() -> argparse.ArgumentParser:
    parser = ToolParser(
        "embed",
        "Encode every set of a config once: later runs of test, validate and fit read features instead of images.",
        usage="--config NAME [--sets NAME ...] [--dtype TYPE] [flags of mmood test]",
        examples=_EXAMPLES,
    )
    parser.add_argument("--sets", nargs="+", metavar="NAME", help="encode only these sets of the config")
    parser.add_argument("--dtype", choices=list(DTYPES), default="fp32", help="type on disk (default: %(default)s)")
    parser.add_argument("--chunk", "--part", type=int, default=CHUNK, help="images per chunk: a worker of a killed run "
                        "loses at most one (default: %(default)s)")  # fmt: skip
    parser.add_argument("--quiet", action="store_true", help="show no progress bar")
    return parser


def _chosen(data: OoDDataModule, names: list[str] | None) -> dict[str, SetIndex]:
    known = data.all_sets()
    for name in names or []:
        if name not in known:
            raise unknown("set in the config", name, known)
    return known if names is None else {name: known[name] for name in names}
