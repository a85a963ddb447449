"""`mmood demo`: builds the world and its CLIP, then runs the commands that a user would type, and shows each."""

from __future__ import annotations

import argparse
import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from mmood.cli.commands import run
from mmood.configuration.tools import ToolParser
from mmood.demo import pretrain, still_life, world
from mmood.demo.pretrain import Recipe
from mmood.errors import MmoodError
from mmood.output.console import console
from mmood.output.printing import note, say
from mmood.results.model import Results
from mmood.results.serialisation import read_results

_NEXT = """
Next, try your own images, with one subfolder per class; a set of OoD images needs no subfolders:

  mmood test --config vitb16_zeroshot.yaml --data.id folder:MY/TEST/IMAGES --data.ood '{far: [folder:MY/OOD/IMAGES]}'

The subfolders' names are the class names, unless `--data.class_names my-classes.txt` has others. `mmood configs` lists
the other configs.
"""


@dataclass(frozen=True)
class Stage:
    """A command of the demo.

    Attributes:
        title: what it shows, in words.
        name: of its run folder.
        command: what stands after `mmood`; `{at}` is the demo's folder.
        located: add the flags that say where data and model lie; a checkpoint knows them.
    """

    title: str
    name: str
    command: str
    located: bool = True

    def arguments(self, folder: Path) -> list[str]:
        """Return the whole command for a demo in this folder."""
        places = [
            *("--data.root", f"{folder}/data"),
            *("--data.class_names", f"{folder}/data/classes.txt"),
            *("--model.encoder.name", f"local-dir:{folder}/clip"),
        ]
        command = [word.format(at=folder) for word in self.command.split()]
        return [
            *command,
            *(places if self.located else []),
            "--run_dir",
            f"{folder}/runs/{self.name}",
            "--overwrite",
            "true",
        ]


_LEAST = 2 * len(world.CLASSES)

_WORDS = "--model.scores.neglabel.negatives {at}/data/words.txt"
_TRAINED = "test --ckpt_path {at}/runs/%s/checkpoints/last.ckpt"

PIXELS = "segnet"
"""The run of scores of pixels, which has a table of its own."""

STAGES = (
    Stage(
        "Zero-shot: nothing is trained, classes are given by name. 1-NN reads training images without labels",
        "zeroshot",
        f"test --config demo_zeroshot.yaml {_WORDS}",
    ),
    Stage(
        "Pseudo-label probe: a head on frozen features, taught by the zero-shot model",
        "plp-fit",
        "fit --config demo_plp.yaml",
    ),
    Stage("... tested: the checkpoint is all it needs", "plp", _TRAINED % "plp-fit", located=False),
    Stage("Linear probe: the same head, taught by true labels", "linear-fit", "fit --config demo_linear.yaml"),
    Stage("... tested", "linear", _TRAINED % "linear-fit", located=False),
    Stage(
        "Alignment-regularised fine-tuning of both towers",
        "align-fit",
        f"fit --config demo_align.yaml --data.batch_size 40 {_WORDS}",
    ),
    Stage("... tested", "align", _TRAINED % "align-fit", located=False),
    Stage(
        "Scores of pixels: a SegNet that never saw a star",
        "segnet-fit",
        "fit --config demo_segnet.yaml --data.root {at}/data",
        located=False,
    ),
    Stage(
        "... tested: where are stars?",
        PIXELS,
        f"{_TRAINED % 'segnet-fit'} --evaluation.save_maps 6",
        located=False,
    ),
)
"""What the demo runs, in order."""

TESTED = ("zeroshot", "plp", "linear", "align")
"""The runs of the last table and of the report; the first is what the others are compared with."""


def main(argv: list[str]) -> int:
    """Run `mmood demo` with the arguments after the command's name; return the exit code of the first that fails."""
    options = _parser().parse_args(argv)
    if options.size < _LEAST:
        raise MmoodError(
            f"`--size` is {options.size}; it must be at least {_LEAST}, two training images of each class."
        )
    start = time.monotonic()
    screen = console()
    build(options.out, options.size, Recipe(seed=options.seed, steps=options.steps, pictures=options.pictures))
    if options.world_only:
        say(f"The sets are in {options.out / 'data'}, the CLIP is in {options.out / 'clip'}.")
        return 0
    for stage in STAGES:
        if code := _run(screen, stage.title, stage.arguments(options.out)):
            return code
    runs = [str(options.out / "runs" / name) for name in TESTED]
    report = ["report", *runs, "--out", str(options.out / "report.html")]
    if code := _run(screen, "All runs side by side", report):
        return code
    screen.print()
    screen.print(_table(options.out / "runs"))
    screen.print(_pixel_table(read_results(options.out / "runs" / PIXELS)))
    print(f"\nDone in {time.monotonic() - start:.0f} s. All files are in {options.out}.\n{_NEXT}", end="")
    return 0


def _run(screen: Console, title: str, arguments: list[str]) -> int:
    screen.print(f"\n{title}", style="bold")
    screen.print(f"$ {shlex.join(['mmood', *arguments])}", style="green", soft_wrap=True)
    return run(arguments)


def _table(runs: Path) -> Table:
    """Return the last table: a line per run and score, near-OoD and far-OoD side by side."""
    table = Table(title="The demo in one table, per cent", title_justify="left", box=SIMPLE_HEAD)
    for column in ("run", "score", "near\nAUROC", "FPR95\nID-pos", "far\nAUROC", "FPR95\nID-pos", "ID\naccuracy"):
        words = column in ("run", "score")
        table.add_column(column, justify="left" if words else "right", no_wrap=words)
    for name in TESTED:
        results = read_results(runs / name)
        for score in dict.fromkeys(row.score for row in results.rows):
            near, far = (_rates(results, score, group) for group in ("near", "far"))
            accuracy = f"{100 * (results.id[0].accuracy or 0):.1f}"
            table.add_row(name, score, *near, *far, accuracy)
        table.add_section()
    return table


def _pixel_table(results: Results) -> Table:
    """Return the table of the scores of pixels: a line per score, OoD pixels and errors side by side."""
    table = Table(title="Pixels of stars, which were held out", title_justify="left", box=SIMPLE_HEAD)
    columns = ("run", "score", "OoD\nAUROC", "FPR95\nOoD-pos", "error\nAUROC", "FPR95\nOoD-pos", "pixel\naccuracy")
    for column in columns:
        words = column in ("run", "score")
        table.add_column(column, justify="left" if words else "right", no_wrap=words)
    for score in dict.fromkeys(row.score for row in results.rows):
        rates = [
            f"{100 * value:.1f}"
            for group in ("pixels", "errors")
            for row in results.rows
            if (row.score, row.group) == (score, group)
            for value in (row.metrics.auroc, row.metrics.fpr95_ood_pos)
        ]
        table.add_row(PIXELS, score, *rates, f"{100 * (results.id[0].accuracy or 0):.1f}")
    return table


def _rates(results: Results, score: str, group: str) -> tuple[str, str]:
    (row,) = (row for row in results.rows if (row.score, row.group) == (score, group))
    return f"{100 * row.metrics.auroc:.1f}", f"{100 * row.metrics.fpr95_id_pos:.1f}"


def build(folder: Path, size: int, recipe: Recipe) -> None:
    """Make the sets (`data`) and the CLIP (`clip`) of the demo below a folder, with progress; keep what is there."""
    with _progress() as progress:
        world.build(folder / "data", size, recipe.seed, progress)
        still_life.build(folder / "data", size, recipe.seed, progress)
        pretrain.build(folder / "clip", recipe, progress)


@contextmanager
def _progress() -> Iterator[world.Progress]:
    """Yield a progress that opens a bar for everything new that is being done, or prints a line without a terminal."""
    columns = (TextColumn("{task.description:32}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    screen = console(stderr=True)
    with Progress(*columns, console=screen, disable=not screen.is_interactive) as bars:
        tasks: dict[str, TaskID] = {}

        def progress(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
                if not screen.is_interactive:
                    note(f"{what}, {total}")
            bars.update(tasks[what], completed=done)

        yield progress


def _parser() -> argparse.ArgumentParser:
    parser = ToolParser(
        "demo",
        "Run the whole workflow on a synthetic world, without a download: render sets of images, pre-train a tiny "
        "CLIP on their captions, and run the commands that a user would type. Existing files are kept.",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("demo-world"), help="folder of the demo (default: %(default)s)"
    )
    parser.add_argument("--size", type=int, default=1000, help="images per set (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of all random draws (default: %(default)s)")
    parser.add_argument(
        "--steps", type=int, default=Recipe.steps, help="training steps of the CLIP (default: %(default)s)"
    )
    parser.add_argument(
        "--pictures",
        type=int,
        default=Recipe.pictures,
        help="images with captions that the CLIP is trained on (default: %(default)s)",
    )
    parser.add_argument("--world_only", action="store_true", help="make the sets and the CLIP, and run nothing on them")
    return parser
