"""`mmood embed`: encode every set of a config once, so that later runs read features in place of images."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from typing import final

from lightning.pytorch import LightningModule, Trainer
from torch.utils.data import DataLoader

from mmood.configuration.lightning import DetectorCLI, parsed
from mmood.configuration.tools import ToolParser
from mmood.data.datamodule import OoDDataModule
from mmood.encoders import AbstractEncoder
from mmood.errors import MmoodError, unknown
from mmood.features.encoding import CHUNK, Ranks, SetEncoder
from mmood.features.provider import MOST_IMAGES
from mmood.features.store import DTYPES, Dtype
from mmood.features.stores import OFF, FeatureStores
from mmood.output.printing import say
from mmood.runs.ending_callback import EndAtSignals
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
    trainer = _trainer(cli)
    trainer.predict(_Encoding(cli.detector().encoder, data, job))
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


@final
class _Encoding(LightningModule):
    """Encodes at the start of `Trainer.predict`: so every strategy of the trainer brings its processes and devices."""

    def __init__(self, encoder: AbstractEncoder, data: OoDDataModule, job: Job) -> None:
        super().__init__()
        self.encoder = encoder
        self.data = data
        self.job = job

    def on_predict_start(self) -> None:
        """Encode every set."""
        stores, loader = FeatureStores(self.data.features), self.data.loader
        batch_size = min(self.data.batch_size, MOST_IMAGES)
        self.encoder.resize_by(self.data.resize)
        plain = SetEncoder(
            self.encoder,
            Ranks.of(self.trainer),
            batch_size,
            loader,
            quiet=self.job.quiet,
            exif=self.data.exif or "ignore",
        )
        for name, index in self.job.sets.items():
            corruption = self.data.corruptions.of(set_name(name))
            encoder = plain if corruption is None else replace(plain, corruption=corruption)
            folder = stores.folder(index, encoder.identity(index), self.job.dtype)
            store = encoder.encode(index, folder, self.job.dtype, self.job.chunk)
            if self.trainer.is_global_zero:
                say(f"{name}: {len(store.label)} images, {self.job.dtype}, {folder}")

    def predict_dataloader(self) -> DataLoader[int]:
        """Return one thing to predict: without any, the loop would not start."""
        return DataLoader([0])  # type: ignore[arg-type]

    def predict_step(self, batch: object, batch_idx: int) -> int:
        """Return anything: the work is done."""
        return 0


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


def _trainer(cli: DetectorCLI) -> Trainer:
    """Return a trainer with the devices and the precision of the config, that writes nothing."""
    config = cli.config.trainer
    return Trainer(
        accelerator=config.accelerator,
        devices=config.devices,
        num_nodes=config.num_nodes,
        strategy=config.strategy,
        precision=config.precision,
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[EndAtSignals()],
    )
