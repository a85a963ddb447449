"""What the site takes from the code, in the place of `{{ WHAT ARGUMENT }}` on a line of its own."""

import importlib
import re
from collections.abc import Callable
from pathlib import Path

from generators import proposals, robustness, tutorials
from generators.catalogue import FAMILIES
from generators.commands import commands_page, keys_page
from generators.pages import methods_page, overview_of
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from mmood.configuration.config_files import available

EXAMPLES = Path(__file__).parents[1] / "tests" / "examples"
PLACE = re.compile(r"^\{\{ (?P<what>\w+)(?: (?P<argument>[\w.-]+))? \}\}$", re.MULTILINE)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Run the tutorials and add their pages, and the leaderboard that one of them writes."""
    for path, page in tutorials.pages():
        files.append(File.generated(config, path, content=page))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Replace each place by what it names."""
    return PLACE.sub(lambda found: PARTS[found["what"]](found["argument"] or ""), markdown)


def _public(module: str) -> str:
    names = importlib.import_module(module).__all__
    return "\n\n".join(f"::: {module}.{name}" for name in names if not name.startswith("__"))


def _example(name: str) -> str:
    """Return an example that the tests run."""
    return f"```python\n{(EXAMPLES / name).read_text(encoding='utf-8').rstrip()}\n```"


def _configs(_: str) -> str:
    rows = [f"| `{name}` | {first_line} |" for name, first_line in available()]
    return "\n".join(["| config | what it is |", "|---|---|", *rows])


def _families(_: str) -> str:
    rows = [f"| [{family.title}]({family.slug}.md) | {overview_of(family)} |" for family in FAMILIES]
    return "\n".join(["| page | methods |", "|---|---|", *rows])


PARTS: dict[str, Callable[[str], str]] = {
    "public": _public,
    "example": _example,
    "configs": _configs,
    "families": _families,
    "methods": methods_page,
    "proposals": proposals.section,
    "commands": commands_page,
    "keys": keys_page,
    "robustness": robustness.page,
    "times": tutorials.times,
}
