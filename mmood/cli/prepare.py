"""`mmood prepare`: fetch, select and pack the sets of a benchmark. Starts without torch."""

from __future__ import annotations

import argparse

from mmood.configuration.tools import ToolParser
from mmood.errors import MmoodError
from mmood.files import user_path
from mmood.output.printing import say
from mmood.prepare.downloads import FOLDER, Downloads
from mmood.prepare.given import look_in
from mmood.prepare.inputs import check_classes
from mmood.prepare.plan import Plan, make_plan, wanted_recipes
from mmood.prepare.preparation import Preparation
from mmood.prepare.shown import show
from mmood.recipes.recipe import read_recipe
from mmood.runs.locks import wait_for_lock
from mmood.runs.signals import leaves
from mmood.shards.locations import is_local

_EXAMPLES = """\
examples:
  mmood prepare imagenet-mos imagenet-openood --root data --dry_run     the plan; nothing is fetched or written
  mmood prepare imagenet-mos --root data --from ~/Downloads             ImageNet is taken from there, the rest fetched
  mmood prepare textures ninco --root data --offline --from /mnt/sets   zips, tars and folders in any public layout
  mmood prepare --recipe pets.yaml --root data                          a set of your own (docs/data.md)

A run that was cut off resumes when it is started again: what is there is not fetched twice, finished sets are left as
they are. `mmood sets` lists the known sets and benchmarks.
"""


def main(argv: list[str]) -> int:
    """Run `mmood prepare` with the arguments after the command's name and return the exit code.

    Raises:
        MmoodError: a name is unknown, the disk is too small, or a set could not be prepared.
    """
    options = _parser().parse_args(argv)
    if not options.names and not options.recipe:
        raise MmoodError("No benchmark or set was named; `mmood sets` lists them.")
    own = [read_recipe(path) for path in options.recipe]
    recipes = wanted_recipes(options.names, own)
    for recipe in recipes:
        check_classes(recipe)
    given = look_in(options.given)
    if not is_local(options.root):
        raise MmoodError(f"`--root` is {options.root}; sets are prepared in a folder of this machine.")
    root = user_path(options.root)
    downloads = Downloads(root, options.quiet, options.hub_client, options.offline)

    def plan() -> Plan:
        return make_plan(root, recipes, given, downloads)

    shown = plan()
    show(shown, downloads)
    if options.dry_run:
        if shown.to_do:
            say("")
            say("Nothing was fetched or written. The same command without --dry_run does this.")
        return 0
    if not shown.to_do:
        return 0
    leaves("prepare", "What was fetched and packed is kept; run the same command again to resume.")
    with wait_for_lock(root / FOLDER / "lock", f"prepares sets in {root}"):
        # Another process may have done some of it meanwhile.
        Preparation(plan(), downloads, options.keep, options.quiet).run()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = ToolParser(
        "prepare",
        "Fetch, select, pack and verify the sets of a benchmark.",
        usage="BENCHMARK|SET ... [--root FOLDER] [flags]",
        examples=_EXAMPLES,
    )
    parser.add_argument("names", nargs="*", metavar="BENCHMARK|SET", help="such as imagenet-mos or textures")
    parser.add_argument("--root", default="data", help="folder of the sets (default: data)")
    parser.add_argument("--recipe", type=user_path, nargs="+", default=[], metavar="FILE", help="sets of your own")
    parser.add_argument("--from", dest="given", type=user_path, nargs="+", default=[], metavar="FOLDER",
                        help="folders of files that you downloaded yourself")  # fmt: skip
    parser.add_argument("--dry_run", "--dry-run", action="store_true", help="show the plan and stop")
    parser.add_argument("--offline", action="store_true", help="fetch nothing")
    parser.add_argument("--keep", action="store_true", help="keep the downloaded archives")
    parser.add_argument("--hub_client", "--hub-client", action="store_true", help="fetch from Hugging Face with the "
                        "huggingface_hub library: your token, its cache servers")  # fmt: skip
    parser.add_argument("--quiet", action="store_true", help="show no progress")
    return parser
