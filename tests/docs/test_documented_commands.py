"""Every command that the README, the pages and the tutorials show has flags that exist."""

import re
import shlex
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest

from mmood.cli import stages
from mmood.cli.commands import COMMANDS
from mmood.cli.help_texts import help_of
from mmood.configuration.config_files import with_found_configs
from mmood.configuration.flag_names import check_names
from mmood.errors import MmoodError

ROOT = Path(__file__).parents[2]
FILES = sorted(
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md"), *ROOT.glob("docs/tutorials/*.py")]
)
STAGES = [name for name, command in COMMANDS.items() if command.module == stages.__name__]
_SHOWN = re.compile(
    r"^(?:    |# !|!)\s*(?:[A-Z_]+=\S+ )*(?:srun |torchrun [^|]* -m )?mmood (\w+) ?([^#|;\n]*)", re.MULTILINE
)
_OF_STAGES = re.compile(r"--(data|model|trainer|evaluation|maps|config|run_dir|overwrite|seed_everything|ckpt_path)\b")


def shown(file: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield each command of a file, and its arguments."""
    for command, arguments in _SHOWN.findall(file.read_text().replace("\\\n", " ")):
        yield command, shlex.split(arguments)


@cache
def accepts(command: str, flag: str) -> bool:
    """Return whether the help of a tool names a flag; those of `mmood test` are taken by tools that run one."""
    return re.search(rf"{flag}\b", help_of(command)) is not None or _OF_STAGES.match(flag) is not None


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_commands_have_flags_that_exist(file):
    for command, arguments in shown(file):
        assert command in COMMANDS
        if command in STAGES:
            configs = [value for flag, value in pairwise(arguments) if flag == "--config"]
            try:
                found = with_found_configs(arguments)
            except MmoodError:
                # A config of the reader's own.
                assert any(not value.startswith(("vitb", "demo")) for value in configs), configs
                continue
            check_names(command, found)
        else:
            flags = [argument.partition("=")[0] for argument in arguments if argument.startswith("--")]
            assert [flag for flag in flags if not accepts(command, flag)] == []


def test_a_wrong_flag_would_be_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("    mmood test --config vitb16_zeroshot.yaml --data.rot x   # wrong\n    mmood pack --outt y\n")
    (test, pack) = shown(page)
    assert pack == ("pack", ["--outt", "y"])
    assert not accepts("pack", "--outt")
    with pytest.raises(MmoodError, match=r"data\.root"):
        check_names("test", with_found_configs(test[1]))


def test_there_are_commands_to_check():
    assert sum(len(list(shown(file))) for file in FILES) > 100
