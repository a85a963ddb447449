"""The command line: help, dispatch, and errors as sentences.

Nothing heavy is imported before a command that needs it is known, so that `mmood --help` answers at once.
"""

from __future__ import annotations

import contextlib
import errno
import sys
from collections.abc import Sequence
from pathlib import Path

from mmood import __version__
from mmood.cli.commands import COMMANDS, GROUPS, run
from mmood.cli.imports import import_scipy_signal_late
from mmood.errors import MmoodError
from mmood.output.printing import complain, lasting_output
from mmood.runs.launched import follow_parent, lost_peer
from mmood.runs.open_files import advice, no_room
from mmood.runs.requeue import listen
from mmood.runs.signals import ends_at_signals

# What a disk answers that is full, or mounted read-only.
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)

_ABOUT = """\
More
  mmood COMMAND --help      flags and examples of a command
  mmood --version

A config is a path, a file in ./configs, or one that comes with mmood. Flags override configs, and a later config
overrides earlier ones. For a first result without a download, run: mmood demo
"""

_TYPED = 44
"""Columns of the usage for what is typed behind `mmood`."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run `mmood` with these arguments (`sys.argv` by default) and return the exit code.

    0: done; 1: `doctor` found a shortfall; 2: bad input, or an output that cannot be written, said in one sentence;
    3: `monitor` raised an alarm.

    Raises:
        Ended: a SystemExit with code 130 (Ctrl-C) or 143 (SIGTERM), after the sentence.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    with lasting_output() as output:
        code = _answered(arguments)
        output.flush()
        if output.fault is None or output.fault.errno == errno.EPIPE:
            return code
        complain(f"The output cannot be written: {output.fault.strerror}. The files of the run are not affected.")
        return code or 2


def _answered(arguments: list[str]) -> int:
    try:
        return _dispatch(arguments)
    except MmoodError as error:
        complain(str(error))
        return 2
    except (OSError, RuntimeError) as error:
        sentence = _sentence(error)
        if sentence is None:
            raise
        complain(sentence)
        return 2
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in ("", "mmood"):
            raise
        complain(f"The module '{missing}' is not installed; `mmood doctor` lists what is missing.")
        return 2


def _sentence(error: OSError | RuntimeError) -> str | None:
    """Return what the user should know of an error of the surroundings; None if it is another one."""
    if no_room(error):
        return advice()
    if isinstance(error, OSError):
        return f"{error.filename or 'A file'} cannot be written: {error.strerror}." if error.errno in _DISK else None
    return "Another process of this run ended early; see its message above." if lost_peer(error) else None


def _dispatch(arguments: list[str]) -> int:
    command = arguments[0] if arguments else "--help"
    if command in ("--help", "-h", "help"):
        print(_usage(), end="")
        return 0
    if command in ("--version", "version"):
        print(f"mmood {__version__}")
        return 0
    listen(command)
    if str(Path.cwd()) not in sys.path:
        # Classes of a user's own are named in a config; behind all others, so that no file here hides a package.
        sys.path.append(str(Path.cwd()))
    import_scipy_signal_late()
    by_itself = command in COMMANDS and COMMANDS[command].ends_by_itself
    with contextlib.nullcontext() if by_itself else ends_at_signals(command):
        follow_parent()
        return run(arguments)


def _usage() -> str:
    lines = ["mmood: out-of-distribution image detection with vision-language models", ""]
    for title, commands in GROUPS.items():
        rows = ((f"{name} {command.arguments}", command.purpose) for name, command in commands.items())
        lines += [title, *(_row(typed, purpose) for typed, purpose in rows), ""]
    return "\n".join([*lines, _ABOUT])


def _row(typed: str, purpose: str) -> str:
    """Return a line of the usage, or two where what is typed is long."""
    gap = " " * (_TYPED - len(typed)) if len(typed) < _TYPED else f"\n{' ' * (_TYPED + len('  mmood '))}"
    return f"  mmood {typed}{gap}{purpose}"
