"""The commands of `mmood`: their purposes and modules; a command is imported when it is run."""

from __future__ import annotations

import importlib
from dataclasses import dataclass

from mmood.cli.imports import quick_imports
from mmood.errors import unknown

_STAGES = "mmood.cli.stages"


@dataclass(frozen=True)
class Command:
    """A command.

    Attributes:
        arguments: the least that a user types behind its name.
        purpose: what it does, in a line.
        module: the module whose `main` takes the arguments behind the name and returns the exit code; that of the
            stages takes their name too.
        ends_by_itself: SIGTERM and Ctrl-C are its own affair: it finishes what it took, and returns.
    """

    arguments: str
    purpose: str
    module: str = _STAGES
    ends_by_itself: bool = False


GROUPS: dict[str, dict[str, Command]] = {
    "Score and test": {
        "test": Command("--config NAME", "score the test sets; report AUROC, AUPR and both FPR95"),
        "predict": Command("--config NAME --data.predict PATH", "score images without labels, one row each"),
        "validate": Command("--config NAME", "score the validation sets"),
        "attack": Command(
            "--config NAME --attack METHOD", "attack the scores, and test what detection is left", "mmood.cli.attack"
        ),
    },
    "Train": {
        "fit": Command("--config NAME", "train a probe, prompts or the towers"),
        "tune": Command("--config NAME --grid GRID", "choose settings of scores on validation sets", "mmood.cli.tune"),
    },
    "Data": {
        "prepare": Command(
            "BENCHMARK|SET ... --root FOLDER", "fetch, select and pack the sets of a benchmark", "mmood.cli.prepare"
        ),
        "sets": Command("[SET ...]", "list benchmarks and sets, or show the card of a set", "mmood.cli.sets"),
        "pack": Command("--out SET --folder IMAGES", "make, index and verify WebDataset shards", "mmood.cli.pack"),
        "embed": Command("--config NAME", "store the features of every set for later runs", "mmood.cli.embed"),
        "negatives": Command("--config NAME --out FILE", "mine negative labels into a file", "mmood.cli.negatives"),
        "propose": Command(
            "--class_names FILE --method METHOD --out FILE", "propose names of outliers", "mmood.cli.propose"
        ),
    },
    "Ship": {
        "calibrate": Command(
            "--config NAME --out DETECTOR", "write a detector: a score with a threshold", "mmood.cli.calibrate"
        ),
        "export": Command(
            "DETECTOR --out FOLDER", "write the detector as ONNX, for use without torch", "mmood.cli.export"
        ),
        "serve": Command("DETECTOR", "answer over HTTP, with a page to try it", "mmood.cli.serve", ends_by_itself=True),
        "detect": Command("DETECTOR INPUT ... --out FILE", "decide on images, folders, shards", "mmood.cli.detect"),
        "monitor": Command(
            "DETECTOR DECISIONS ...", "check for drift since calibration (then exit code 3)", "mmood.cli.monitor"
        ),
    },
    "Compare": {
        "report": Command("RUN [RUN ...]", "compare runs on one page", "mmood.cli.report"),
        "reproduce": Command("[PAPER[:TABLE]]", "rerun published tables; compare the numbers", "mmood.cli.reproduce"),
        "leaderboard": Command(
            "RUN ... --out SITE", "rank runs by their raw scores; refuse altered ones", "mmood.cli.leaderboard"
        ),
    },
    "Set up and learn": {
        "demo": Command("", "run everything on a small synthetic world; no download", "mmood.cli.demo"),
        "doctor": Command(
            "[--config NAME]", "check the installation, and whether a config would run", "mmood.cli.doctor"
        ),
        "configs": Command("", "list the configs that come with mmood", "mmood.cli.configs"),
        "completion": Command("SHELL", "print a script for shell completion", "mmood.cli.completion"),
    },
}
COMMANDS = {name: command for group in GROUPS.values() for name, command in group.items()}


def run(arguments: list[str]) -> int:
    """Run a command with its arguments, the command's name first; return the exit code.

    Raises:
        MmoodError: there is no such command, or bad input.
    """
    name, *rest = arguments
    if name not in COMMANDS:
        raise unknown("command", name, COMMANDS)
    module = COMMANDS[name].module
    with quick_imports():
        command = importlib.import_module(module)
    code: int = command.main(arguments if module == _STAGES else rest)
    return code
