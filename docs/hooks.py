"""What the site takes from the code: the lists of public names, and the shipped configs."""

import importlib
import re

from mmood.configuration.config_files import available

_LIST = re.compile(r"^\{\{ (?P<what>public|configs)(?: (?P<module>[\w.]+))? \}\}$", re.MULTILINE)


def on_page_markdown(markdown: str, **_: object) -> str:
    """Replace `{{ public MODULE }}` by a reference entry for each of its public names, `{{ configs }}` by a table."""
    return _LIST.sub(lambda found: _configs() if found["what"] == "configs" else _public(found["module"]), markdown)


def _public(module: str) -> str:
    names = importlib.import_module(module).__all__
    return "\n\n".join(f"::: {module}.{name}" for name in names if not name.startswith("__"))


def _configs() -> str:
    rows = [f"| `{name}` | {first_line} |" for name, first_line in available()]
    return "\n".join(["| config | what it is |", "|---|---|", *rows])
