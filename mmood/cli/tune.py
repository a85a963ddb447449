"""`mmood tune`: choose settings of scores on ID validation and validation OoD sets, and write them as a config."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch import Trainer

from mmood.configuration.lightning import DetectorCLI, parsed
from mmood.configuration.tools import ToolParser
from mmood.data.catalog import EvaluationSet
from mmood.data.datamodule import OoDDataModule
from mmood.errors import MmoodError
from mmood.features.stores import hashes_folder
from mmood.modules.base import AbstractDetector
from mmood.output.console import progress_bar
from mmood.output.printing import say
from mmood.runs.checkpoints import read_checkpoint, stored_config
from mmood.runs.ending_callback import EndAtSignals
from mmood.shards.hashes import image_hashes
from mmood.shards.index import Hashes
from mmood.tuning.criteria import CRITERIA, HELD_OUT_CLASSES
from mmood.tuning.grid import ScoreGrid, parse_grid
from mmood.tuning.leaks import TuningSets, refuse_shared_classes, refuse_shared_images, refuse_test_sets, tuning_sets
from mmood.tuning.recorder import Recording
from mmood.tuning.tables import show
from mmood.tuning.tuner import Choice, Tuner
from mmood.tuning.written import write_config

_EXAMPLES = """\
examples:
  mmood tune --config X.yaml --grid '{knn: {k: [1, 5, 10, 50]}}'
  mmood tune --ckpt_path PROBE.ckpt --grid '{msp: {temperature: fitted}, react: {percentile: [80, 90, 95]}}'
  mmood test --config X.yaml --config tuned.yaml

It needs an ID validation set (data.val.id) and, unless --criterion is held_out_classes, validation OoD sets
(data.val.ood), such as --data.val '{id: 0.01, ood: {val: [NAME]}}'. They must share no image with a test set, and no
original class with an OoD test set. Images are encoded once for all values, or not at all after `mmood embed`. All
other flags are those of `mmood test`. It runs on one device.
"""


def main(argv: list[str]) -> int:
    """Run `mmood tune` with the arguments after the command's name and return the exit code.

    Raises:
        MmoodError: a set must not be tuned on, a setting is unknown, or `--out` exists.
    """
    options, rest = _parser().parse_known_args(argv)
    if options.out.exists():
        raise MmoodError(f"--out {options.out} already exists; remove it or name another file.")
    checkpoint, rest = _without_checkpoint(rest)
    cli = parsed(rest)
    config = yaml.safe_load(cli.parser.dump(cli.config, skip_none=False))
    grids = parse_grid(options.grid, config["model"]["init_args"]["scores"])
    _refuse_several_processes(cli.config.trainer.devices, cli.config.trainer.num_nodes)
    needs_ood = options.criterion != HELD_OUT_CLASSES and any(grid.chooses() for grid in grids)
    data = cli.data_module()
    sets = tuning_sets(data, needs_ood)
    notes = _checked(sets, data, options.quiet)
    detector = _without_scores(cli, grids)
    tuner = Tuner(grids, options.criterion, _learned(checkpoint))
    recording = Recording([entry.name for entry in (sets.id, *sets.ood)], tuner.work)
    _trainer(cli, recording, options).validate(detector, datamodule=data, ckpt_path=checkpoint, verbose=False)
    weights = str(detector.encoder.identity()["weights_sha256"])
    write_config(options.out, config, tuner.choices, sets, weights, notes)
    _report(tuner.choices, sets, notes, recording.read_images, options.out)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = ToolParser(
        "tune",
        "Choose settings of scores on validation sets, and write them as a config for `mmood test`.",
        usage="--config NAME --grid '{SCORE: {SETTING: [VALUE, ...]}}' [flags of mmood test]",
        examples=_EXAMPLES,
    )
    parser.add_argument("--grid", required=True, metavar="YAML", help="values to try: score -> setting -> values, in "
                        "every combination within a score; `temperature: fitted` minimises the negative "
                        "log-likelihood on ID validation")  # fmt: skip
    criteria = "; ".join(f"{name}: {words}" for name, words in CRITERIA.items()).replace("%", "%%")
    parser.add_argument("--criterion", choices=list(CRITERIA), default="auroc", help=criteria)
    parser.add_argument("--out", type=Path, default=Path("tuned.yaml"), metavar="FILE", help="the config to write "
                        "(default: %(default)s)")  # fmt: skip
    parser.add_argument("--quiet", action="store_true", help="show no progress bars")
    return parser


def _without_checkpoint(rest: list[str]) -> tuple[str | None, list[str]]:
    """Return the checkpoint, and the arguments with the settings that it holds in its place."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--ckpt_path")
    found, others = parser.parse_known_args(rest)
    return found.ckpt_path, [*stored_config(rest), *others]


def _refuse_several_processes(devices: object, nodes: int) -> None:
    several = any(int(os.environ.get(name, 1)) > 1 for name in ("WORLD_SIZE", "SLURM_NTASKS"))
    many = isinstance(devices, list) and len(devices) > 1
    if several or many or nodes > 1 or (str(devices).isdigit() and int(str(devices)) > 1):
        raise MmoodError(
            "`mmood tune` works in one process; encode on all devices with `mmood embed`, then tune with "
            "--trainer.devices 1."
        )


def _checked(sets: TuningSets, data: OoDDataModule, quiet: bool) -> list[str]:
    """Return notes on the sets, after refusing those that must not be tuned on: cheap checks first."""
    refuse_test_sets(sets)
    notes = refuse_shared_classes(sets)
    if not sets.tests:
        notes.append("No test set is named (`data.id`, `data.ood`), so the validation sets were not compared with any.")
    folder, found = hashes_folder(), dict[tuple[str, int], Hashes]()

    def hashes(entry: EvaluationSet) -> Hashes:
        key = entry.index.hash, entry.count
        if key not in found:
            skip = data.loader.on_error == "skip"
            with progress_bar(f"comparing the images of {entry.index.name}", entry.count, quiet, transient=True) as bar:
                found[key] = image_hashes(entry.index, entry.keys, folder, skip, bar.advance)
        return found[key]

    refuse_shared_images(sets, hashes)
    return notes


def _without_scores(cli: DetectorCLI, grids: list[ScoreGrid]) -> AbstractDetector:
    """Return the detector without scores; its steps return what those of the grids read."""
    outputs = {output for grid in grids for output in grid.build(grid.first()).needs}
    return cli.detector().without_scores(outputs)


def _learned(checkpoint: str | None) -> dict[str, Any]:
    """Return the state that the scores of a fine-tuned model learned with its initial weights."""
    if checkpoint is None:
        return {}
    return dict(read_checkpoint(Path(checkpoint), "--ckpt_path").get("mmood_scores", {}))


def _trainer(cli: DetectorCLI, recording: Recording, options: argparse.Namespace) -> Trainer:
    config = cli.config.trainer
    devices = config.devices if isinstance(config.devices, list) else 1
    return Trainer(
        accelerator=config.accelerator,
        devices=devices,
        precision=config.precision,
        callbacks=[EndAtSignals(), recording],
        default_root_dir=options.out.absolute().parent,
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=not options.quiet,
        enable_model_summary=False,
    )


def _report(choices: list[Choice], sets: TuningSets, notes: list[str], read_images: bool, out: Path) -> None:
    show(choices)
    on = ", ".join(f"'{entry.name}'" for entry in (sets.id, *sets.ood))
    say(f"Tuned on {on}; the test sets were not scored.")
    for note in notes:
        say(f"Note: {note}")
    if read_images:
        say("Images were encoded; after `mmood embed` the next tuning reads features instead.")
    say(f"Settings: {out} (mmood test ... --config {out})")
