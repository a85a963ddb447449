"""`mmood sets`: the known sets and benchmarks, and a card for each set."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

from mmood.classes.names import load_class_names
from mmood.configuration.tools import ToolParser
from mmood.data.benchmarks import BENCHMARKS
from mmood.errors import MmoodError, unknown
from mmood.files import user_path
from mmood.files.cache import cache_folder
from mmood.output.printing import say
from mmood.prepare.card import Around, Row, of_index, of_recipe, sets_around
from mmood.recipes.recipe import Recipe, read_recipe
from mmood.recipes.registry import find_recipe, known_recipe, recipe_names
from mmood.sets.finding import find_set
from mmood.shards.index import MissingSetError, SetIndex

_EXAMPLES = """\
examples:
  mmood sets                                 benchmarks and sets, and which of them are below --root
  mmood sets textures --root data            the card of a set
  mmood sets textures --root data --texts    also the similarity to the names of the ID classes: loads the encoder
  mmood sets folder:MY/IMAGES --id imagenet  the card of a set of your own, compared with an ID set

Similarities are computed from the features that `mmood embed` has stored.
"""
_WIDTH = 116
_TITLE = 14  # columns


def main(argv: list[str]) -> int:
    """Run `mmood sets` with the arguments after the command's name and return the exit code.

    Raises:
        MmoodError: a set is neither known nor there, or cannot be read.
    """
    options = _parser().parse_args(argv)
    if not options.names:
        for line in _listing(options.root):
            say(line)
        return 0
    own = {recipe.name: recipe for recipe in map(read_recipe, options.recipe)}
    for number, name in enumerate(options.names):
        if number:
            say("")
        for line in list(_card(name, own.get(name) or known_recipe(name), options)):
            say(line)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = ToolParser(
        "sets",
        "List benchmarks and sets, or show cards of sets: sizes, licence, source, copies, similarity to ID.",
        usage="[SET ...] [--root FOLDER] [flags]",
        examples=_EXAMPLES,
    )
    parser.add_argument(
        "names", nargs="*", metavar="SET", help="a known set, one below --root, or a path as in data.id"
    )
    parser.add_argument("--root", default="data", help="folder of the sets (default: data)")
    parser.add_argument("--id", metavar="SET", help="ID set to compare with (default: that of the set's benchmarks)")
    parser.add_argument("--recipe", type=user_path, nargs="+", default=[], metavar="FILE", help="recipes of your own")
    parser.add_argument("--features", type=user_path, metavar="FOLDER", help="folder of feature stores (default: the "
                        "cache)")  # fmt: skip
    parser.add_argument("--texts", action="store_true", help="also encode the names of the ID classes")
    parser.add_argument("--class_names", "--class-names", metavar="FILE", help="these names: a file with one per line, "
                        "or a list such as imagenet-openai (default: those of the ID set)")  # fmt: skip
    return parser


def _listing(root: str) -> Iterator[str]:
    yield "Benchmarks"
    for name, benchmark in BENCHMARKS.items():
        yield from _row(name, benchmark.notes, 24)
        groups = [f"{group} {', '.join(names)}" for group, names in benchmark.ood.items()]
        shifted = [f"csid {', '.join(benchmark.csid)}"] if benchmark.csid else []
        yield from _row("", "; ".join([f"ID {benchmark.id}", *shifted, *groups]), 24)
    yield ""
    yield f"Sets (* in {root})"
    for name in recipe_names():
        recipe = find_recipe(name)
        count = "?" if recipe.count is None else f"{recipe.count:,}"
        yield f"{'*' if _index(root, name) else ' '} {name:24}{count:>9}  {recipe.title}"
    here = sorted(path.parent.name for path in user_path(root).glob("*/index.json"))
    for name in (name for name in here if name not in recipe_names()):
        index = find_set(root, name)
        yield f"* {name:24}{index.count:>9,}  {index.source or 'a set of your own'}"
    yield ""
    yield "`mmood sets NAME` shows a card, `mmood prepare NAME` makes a set."


def _card(name: str, recipe: Recipe | None, options: argparse.Namespace) -> Iterator[str]:
    index = _index(options.root, name)
    if recipe is None and index is None:
        raise unknown("set", name, recipe_names(), limit=50)
    yield name
    rows: list[Row] = [] if recipe is None else list(of_recipe(recipe))
    for title, text in rows:
        yield from _row(title, text)
    if index is None:
        yield from _row("here", f"no; `mmood prepare {name} --root {options.root}` makes it")
        return
    around = sets_around(index.name, options.root, options.id)
    for title, text in of_index(index, around):
        yield from _row(title, text)
    for text in _similar(index, around, options):
        yield from _row("similarity", text)


def _similar(index: SetIndex, around: Around, options: argparse.Namespace) -> Iterator[str]:
    folder: Path = options.features or cache_folder("features")
    for id_set in around.id_sets:
        if not any(folder.glob("*/manifest.json")):
            break
        # Imported here: it imports torch, and most cards need none of it.
        from mmood.prepare.similarity import NEAR, similarities

        found = False
        names = _class_names(id_set, options) if options.texts else None
        for one in similarities(folder, index, id_set, names):
            found = True
            texts = "" if one.to_texts is None else f", with the nearest of its class names {one.to_texts:.3f}"
            yield (
                f"mean cosine with the nearest image of {id_set.name} {one.to_images:.3f}{texts}; {one.near:,} images "
                f"have one of at least {NEAR} ({one.encoder})"
            )
        if found:
            return
    if around.id_sets:
        yield "unknown: no encoder has stored features of this set and the ID set; `mmood embed` stores them"


def _class_names(id_set: SetIndex, options: argparse.Namespace) -> Sequence[str]:
    names = id_set.known_names if options.class_names is None else load_class_names(options.class_names)
    if not names:
        raise MmoodError(f"The set '{id_set.name}' does not name its classes; give them with --class_names.")
    return names


def _index(root: str, name: str) -> SetIndex | None:
    try:
        return find_set(root, name)
    except MissingSetError:
        return None


def _row(title: str, text: str, width: int = _TITLE) -> list[str]:
    first, rest = f"  {title:{width}}", " " * (width + 2)
    return textwrap.wrap(
        text, _WIDTH, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    )
