"""`mmood demo`: builds the world and its CLIP, then runs the commands that a user would type, and shows each."""

from __future__ import annotations

import argparse
import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from mmood.demo import pretrain, world
from mmood.demo.pretrain import Recipe
from mmood.tool_parser import ToolParser

_NEXT = """
What to type next, for images of your own, one subfolder per class; a set of OoD images needs no subfolders:

  mmood pack --out data/my-test --folder MY/TEST/IMAGES
  mmood pack --out data/my-ood --folder MY/OOD/IMAGES
  mmood test --config vitb16_zeroshot.yaml --data.root data --data.id my-test --data.ood '{far: [my-ood]}' \\
      --data.class_names my-classes.txt

`my-classes.txt` has one name a line, in the order of the labels. `mmood configs` lists what else there is.
"""


@dataclass(frozen=True)
class Stage:
    """A command of the demo.

    Attributes:
        title: what it shows, in words.
        name: of its run folder.
        command: what stands after `mmood`, without the flags that say where the demo lies.
    """

    title: str
    name: str
    command: tuple[str, ...]

    def arguments(self, folder: Path) -> list[str]:
        """Return the whole command for a demo in this folder."""
        return [
            *self.command,
            *("--data.root", f"{folder}/data"),
            *("--data.class_names", f"{folder}/data/classes.txt"),
            *("--model.encoder.name", f"local-dir:{folder}/clip"),
            *("--run_dir", f"{folder}/runs/{self.name}"),
        ]


STAGES = (
    Stage("Zero-shot: nothing is trained, classes are words", "zeroshot", ("test", "--config", "demo_zeroshot.yaml")),
)
"""What the demo runs, in order."""


def main(argv: list[str]) -> int:
    """Run `mmood demo` with the arguments after the command's name; return the exit code of the first that fails."""
    from mmood.cli import main as mmood

    options = _parser().parse_args(argv)
    start = time.monotonic()
    console = Console(highlight=False)
    build(options.out, options.size, Recipe(seed=options.seed, steps=options.steps))
    for stage in STAGES:
        arguments = stage.arguments(options.out)
        console.print(f"\n[bold]{stage.title}[/bold]")
        console.print(f"$ {shlex.join(['mmood', *arguments])}", style="green", markup=False, soft_wrap=True)
        if code := mmood(arguments):
            return code
    print(f"\nDone in {time.monotonic() - start:.0f} s. Everything lies in {options.out}.\n{_NEXT}", end="")
    return 0


def build(folder: Path, size: int, recipe: Recipe) -> None:
    """Make the sets (`data`) and the CLIP (`clip`) of the demo below a folder, with progress; keep what is there."""
    with _bars() as progress:
        world.build(folder / "data", size, recipe.seed, progress)
        pretrain.build(folder / "clip", recipe, progress)


@contextmanager
def _bars() -> Iterator[world.Progress]:
    """Yield a progress that opens a bar for everything new that is being done."""
    columns = (TextColumn("{task.description:32}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        tasks: dict[str, TaskID] = {}

        def progress(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done)

        yield progress


def _parser() -> argparse.ArgumentParser:
    parser = ToolParser(
        prog="mmood demo",
        description="The whole loop on an embedded world, without a download: renders sets of images, pre-trains a "
        "tiny CLIP on captions of them, and runs the commands that a user would type. What is there already is kept.",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("demo-world"), help="folder of the demo (default: %(default)s)"
    )
    parser.add_argument("--size", type=int, default=1000, help="images per set (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of everything that is random (default: %(default)s)")
    parser.add_argument(
        "--steps", type=int, default=Recipe.steps, help="batches that the CLIP learns from (default: %(default)s)"
    )
    return parser
