"""The command line: finds configs, dispatches to LightningCLI and to the tools, and speaks in sentences.

Nothing heavy is imported before a command that needs it is known, so that `mmood --help` answers at once.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable, Sequence

from mmood import __version__
from mmood.errors import MmoodError, unknown
from mmood.output import complain, lasting_output, say
from mmood.runs.launched import follow_parent, lost_peer
from mmood.runs.requeue import listen

# What a disk answers that is full, or mounted read-only.
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)

USAGE = """\
mmood: out-of-distribution image detection with vision-language models

  mmood test      --config NAME ...    score the test sets, report AUROC and FPR95
  mmood fit       --config NAME ...    train a probe or fine-tune
  mmood validate  --config NAME ...    score the validation sets
  mmood predict   --config NAME ...    score images without labels
  mmood pack      --out SET ...        make or index WebDataset shards
  mmood embed     --config NAME ...    encode every set once: later runs read features, no images
  mmood tune      --config NAME --grid GRID  choose settings of scores on validation sets
  mmood negatives --config NAME --out FILE   mine negative labels for a look or for reuse
  mmood report    RUN [RUN ...]        put runs side by side in one page
  mmood doctor    [--config NAME ...]  say what works here and whether a config would run
  mmood configs                        list the configs that come with mmood

  mmood COMMAND --help                 the settings of a command
  mmood --version

A config is a path, a file in ./configs, or one that comes with mmood; flags win over configs, the last config over
the ones before it. First number, no download:  mmood demo
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run `mmood` with these arguments (`sys.argv` by default) and return the exit code.

    0: done; 1: `doctor` found a shortfall; 2: bad input, or an output that cannot be written, said in one sentence;
    130: interrupted.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    with lasting_output() as output:
        code = _answered(arguments)
        output.flush()
        if output.fault is None or output.fault.errno == errno.EPIPE:
            return code
        complain(f"The output cannot be written: {output.fault.strerror}. Files of the run are not affected.")
        return code or 2


def _answered(arguments: list[str]) -> int:
    try:
        return _dispatch(arguments)
    except MmoodError as error:
        complain(str(error))
        return 2
    except OSError as error:
        if error.errno not in _DISK:
            raise
        complain(f"{error.filename or 'A file'} cannot be written: {error.strerror}.")
        return 2
    except RuntimeError as error:
        if not lost_peer(error):
            raise
        complain("Another process of this run ended early; what it said stands above.")
        return 2
    except KeyboardInterrupt:
        complain("interrupted.")
        return 130


def _dispatch(arguments: list[str]) -> int:
    command = arguments[0] if arguments else "--help"
    if command in ("--help", "-h", "help"):
        print(USAGE, end="")
        return 0
    if command in ("--version", "version"):
        print(f"mmood {__version__}")
        return 0
    if command not in COMMANDS:
        raise unknown("command", command, COMMANDS)
    listen(command)
    follow_parent()
    return COMMANDS[command](arguments)


def _lightning(arguments: list[str]) -> int:
    from mmood.configuration.lightning import run

    return run(arguments)


def _pack(arguments: list[str]) -> int:
    from mmood.cli.pack import main as pack

    return pack(arguments[1:])


def _embed(arguments: list[str]) -> int:
    from mmood.cli.embed import main as embed

    return embed(arguments[1:])


def _tune(arguments: list[str]) -> int:
    from mmood.cli.tune import main as tune

    return tune(arguments[1:])


def _doctor(arguments: list[str]) -> int:
    from mmood.cli.doctor import main as doctor

    return doctor(arguments[1:])


def _negatives(arguments: list[str]) -> int:
    from mmood.cli.negatives import main as negatives

    return negatives(arguments[1:])


def _demo(arguments: list[str]) -> int:
    from mmood.cli.demo import main as demo

    return demo(arguments[1:], main)


def _report(arguments: list[str]) -> int:
    from mmood.cli.report import main as report

    return report(arguments[1:])


def _configs(arguments: list[str]) -> int:
    from mmood.configuration.config_files import available

    for name, first_line in available():
        say(f"{name:28} {first_line}")
    return 0


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "fit": _lightning,
    "validate": _lightning,
    "test": _lightning,
    "predict": _lightning,
    "pack": _pack,
    "embed": _embed,
    "tune": _tune,
    "doctor": _doctor,
    "negatives": _negatives,
    "demo": _demo,
    "report": _report,
    "configs": _configs,
}
