"""`mmood configs`: the configs that can be named."""

from __future__ import annotations

from mmood.configuration.config_files import available
from mmood.configuration.tools import ToolParser
from mmood.output.printing import say


def main(arguments: list[str]) -> int:
    """Run `mmood configs` with the arguments after the command's name; return the exit code."""
    ToolParser("configs", "List the configs that come with mmood, and those in ./configs.").parse_args(arguments)
    for name, first_line in available():
        say(f"{name:28} {first_line}")
    return 0
