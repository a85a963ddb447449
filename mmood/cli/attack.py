"""`mmood attack`: a detector tested on images that were made to mislead its scores."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import yaml

from mmood.attacks.run import AttackRun, Other
from mmood.attacks.settings import DIRECTIONS, EPS, METHODS, STEPS, AttackSettings
from mmood.attacks.tables import to_rich
from mmood.attacks.victim import attacked_scores, keeps_size
from mmood.configuration.lightning import DetectorCLI, parsed
from mmood.configuration.on_ranks import run_on_ranks
from mmood.configuration.tools import ToolParser
from mmood.data.datamodule import OoDDataModule
from mmood.errors import MmoodError
from mmood.output.console import console
from mmood.output.printing import complain, say
from mmood.report.runs import short_names
from mmood.runs.checkpoints import load_weights, stored_config
from mmood.runs.earlier import put_aside, refuse_earlier
from mmood.runs.folder import run_folder
from mmood.runs.locks import lock_or_refuse
from mmood.runs.signals import is_first_rank

_EXAMPLES = """\
examples:
  mmood attack --config vitb16_attack.yaml --data.root DATA --limit 500
  mmood attack --config vitb16_zeroshot.yaml --attack apgd --score mcm --eps 1/255 4/255 --direction both
  mmood attack --ckpt_path RUN/checkpoints/last.ckpt --attack pgd --norm l2 --eps 0.5 1 --transfer_to other.yaml
  mmood attack --config demo_zeroshot.yaml --attack manipulation                  PLP's; it has no budget

All other flags are those of `mmood test`. The attacked images are sets in RUN/attacked, which every command can read;
RUN is that of --run_dir. A killed run with a --run_dir resumes when it is started again (docs/robustness.md).
"""


def main(argv: list[str]) -> int:
    """Run `mmood attack` with the arguments after the command's name and return the exit code.

    Raises:
        MmoodError: a setting is wrong, a score cannot be attacked, or the run folder holds another run.
    """
    options, rest = _parser().parse_known_args(argv)
    settings = _settings(options)
    checkpoint = options.ckpt_path
    cli = parsed([*_stored(checkpoint), *rest])
    name = cli.config.name or cli.config.model.class_path.rpartition(".")[2].lower()
    with ExitStack() as held:
        run = _run(cli, settings, options, checkpoint, name, held)
        run_on_ranks(cli, [run.module, *(other.module for other in run.others)], run.work)
    if run.results is not None:
        console().print(to_rich(run.results))
        say(f"Attacked sets: {run.folder / 'attacked'}")
        say(f"Results: {run.folder}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = ToolParser(
        "attack",
        "Attack the scores of a detector by gradients to the pixels, and test it on the attacked images.",
        usage="--config NAME | --ckpt_path FILE [--attack METHOD] [--eps EPS ...] [flags of mmood test]",
        examples=_EXAMPLES,
    )
    add = parser.add_argument
    steps = ", ".join(f"{method} {count}" for method, count in STEPS.items() if count > 1)
    add("--attack", default="apgd", metavar="METHOD", help=f"{', '.join(METHODS)} (default: %(default)s)")
    add("--score", nargs="+", metavar="NAME", help="scores of the config to attack (default: all)")
    add("--norm", default="linf", metavar="NORM", help="linf or l2 (default: %(default)s)")
    add("--eps", nargs="+", metavar="EPS", help="radii for pixel values in [0, 1], after resize and crop "
        f"(default: {' '.join(EPS['linf'])}; for l2 {' '.join(EPS['l2'])})")  # fmt: skip
    add("--direction", default="ood-as-id", metavar="SIDE", help=f"{', '.join(DIRECTIONS)} (default: %(default)s)")
    add("--steps", type=int, metavar="N", help=f"gradients of a search (default: {steps})")
    add("--restarts", type=int, default=1, metavar="N", help="random starts; the best point counts (default: 1)")
    add("--seed", type=int, default=0, metavar="N", help="of all draws, which also depend on the key (default: 0)")
    add("--limit", type=int, metavar="N", help="images of each attacked set, by a hash of the key (default: all)")
    add("--smoothness", type=float, default=5e3, metavar="X", help="of a manipulation's changes; 0 lets them be patchy")
    add("--transfer_to", nargs="+", default=[], metavar="FILE",
        help="configs or checkpoints of detectors that also score the attacked images")  # fmt: skip
    add("--ckpt_path", metavar="FILE", help="a trained model; brings its settings along")
    add("--quiet", action="store_true", help="show no progress bars")
    return parser


def _settings(options: argparse.Namespace) -> AttackSettings:
    manipulates = options.attack == "manipulation"
    eps = options.eps if options.eps is not None else () if manipulates else EPS.get(options.norm, ())
    return AttackSettings(
        method=options.attack,
        norm=options.norm,
        eps=tuple(eps),
        direction=options.direction,
        steps=STEPS.get(options.attack, 1) if options.steps is None else options.steps,
        restarts=options.restarts,
        seed=options.seed,
        limit=options.limit,
        smoothness=options.smoothness,
    )


def _run(
    cli: DetectorCLI,
    settings: AttackSettings,
    options: argparse.Namespace,
    checkpoint: str | None,
    name: str,
    held: ExitStack,
) -> AttackRun:
    data = cli.data_module()
    _refuse_others(data, cli)
    data.check("test")
    if settings.method == "manipulation":
        if options.score:
            raise MmoodError("--attack manipulation moves features, whatever the score; leave out --score.")
        data.train_name()
    module = cli.detector()
    if checkpoint is not None:
        load_weights(module, Path(checkpoint), "--ckpt_path")
    scores = [] if settings.method == "manipulation" else attacked_scores(module, options.score)
    folder = run_folder(cli.config.run_dir or cli.config.trainer.default_root_dir, name)
    if is_first_rank():
        advice = f"writes into {folder}", "set another --run_dir"
        held.enter_context(lock_or_refuse(folder / ".lock", *advice))
        if not cli.config.overwrite:
            refuse_earlier(folder, "attack", None)
        else:
            put_aside(folder, "attack", None)
        if not keeps_size(module):
            complain(
                f"The transform of the model ({module.encoder.preprocessing.resize_mode}) resizes even an image of the "
                "tower's own size, so other commands would see the attacked sets resized once more."
            )
    text = cli.parser.dump(cli.config, skip_none=False)
    others = _others(options.transfer_to, cli)
    return AttackRun(module, data, settings, scores, folder, text, others, options.quiet)


def _refuse_others(data: OoDDataModule, cli: DetectorCLI) -> None:
    """Raise MmoodError if settings ask for what an attack does not do, and would leave out in silence."""
    if data.plan.csid:
        raise MmoodError("`data.csid` is set, but only ID and OoD sets are attacked; set --data.csid '[]'.")
    if data.corruptions.corruption is not None:
        raise MmoodError("`data.corruption` is set, but images are attacked as they are; set --data.corruption null.")
    if cli.config.evaluation.smoothing.copies:
        raise MmoodError(
            "`evaluation.smoothing` is set, but scores are attacked without it; test the attacked sets with it by "
            "`mmood test`."
        )


def _others(paths: Sequence[str], cli: DetectorCLI) -> list[Other]:
    """Return the detectors to transfer to, over the same sets."""
    data = yaml.safe_load(cli.parser.dump(cli.config, skip_none=False))["data"]
    # A line of text, which `--config` takes in place of a file.
    sets = yaml.safe_dump({"data": data}, default_flow_style=True, width=math.inf)
    names = short_names([_run_of(Path(path)) for path in paths]) if paths else []
    others = []
    for path, name in zip(paths, names, strict=True):
        trained = path.endswith(".ckpt")
        other = parsed([*(_stored(path) if trained else ["--config", path]), "--config", sets])
        module = other.detector()
        if trained:
            load_weights(module, Path(path), "--transfer_to")
        others.append(Other(name, module, other.data_module()))
    return others


def _run_of(path: Path) -> Path:
    """Return the folder of the run of a checkpoint, or a config without its ending."""
    return path.parent.parent if path.parent.name == "checkpoints" else path.with_suffix("")


def _stored(checkpoint: str | None) -> list[str]:
    return [] if checkpoint is None else stored_config(["--ckpt_path", checkpoint])
