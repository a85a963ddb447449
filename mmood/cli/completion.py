"""`mmood completion`: a script by which a shell completes commands, flags and the names of configs."""

from __future__ import annotations

import argparse

import shtab

from mmood.cli.commands import COMMANDS
from mmood.cli.help_texts import flags_of, help_of
from mmood.configuration.config_files import available
from mmood.configuration.tools import ToolParser
from mmood.output.printing import say

_EXAMPLES = """\
examples:
  source <(mmood completion bash)                                      # in this shell, or a line of ~/.bashrc
  mmood completion bash > ~/.local/share/bash-completion/completions/mmood
  mmood completion zsh > ~/.zfunc/_mmood                               # with ~/.zfunc in fpath before compinit
"""
_PASSES_ON = "flags of mmood test"  # what the help of a command says that takes these too


def main(arguments: list[str]) -> int:
    """Run `mmood completion` with the arguments after the command's name; return the exit code."""
    options = _parser().parse_args(arguments)
    for line in shtab.complete(described(), options.shell).splitlines():
        say(line)
    return 0


def described() -> argparse.ArgumentParser:
    """Return a parser of the whole command line as the helps describe it, for completion alone."""
    whole = argparse.ArgumentParser(prog="mmood")
    commands = whole.add_subparsers(dest="command")
    of_test = flags_of("test")
    for name, command in COMMANDS.items():
        one = commands.add_parser(name, help=command.purpose)
        passed_on = of_test if _PASSES_ON in help_of(name) else []
        for flag in dict.fromkeys([*flags_of(name), *passed_on]):
            _add(one, flag)
        if name == "completion":
            one.add_argument("shell", choices=shtab.SUPPORTED_SHELLS)
        else:
            _files(one.add_argument("rest", nargs="*"))
    return whole


def _add(parser: argparse.ArgumentParser, flag: str) -> None:
    if flag == "--config":
        parser.add_argument(flag, choices=[name for name, _ in available()])
    else:
        _files(parser.add_argument(flag))


def _files(argument: argparse.Action) -> None:
    """Let the shell complete the names of files."""
    argument.complete = shtab.FILE  # type: ignore[attr-defined]  # read by shtab


def _parser() -> argparse.ArgumentParser:
    parser = ToolParser("completion", "Print a script for shell completion.", examples=_EXAMPLES)
    parser.add_argument("shell", choices=shtab.SUPPORTED_SHELLS, help="the shell that reads it")
    return parser
