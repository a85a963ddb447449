"""What is printed never costs the work: other encodings, full disks, readers that leave."""

import contextlib
import errno
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.table import Table

from mmood.cli.main import main
from mmood.output.console import console, progress_bar
from mmood.output.printing import LastingOutput, complain, lasting_output, say

FULL = Path("/dev/full")


class Failing(io.TextIOBase):
    """A stream whose every byte is refused."""

    encoding = "utf-8"

    def __init__(self, code):
        self.code = code

    def write(self, text):
        raise OSError(self.code, os.strerror(self.code))

    def flush(self):
        raise OSError(self.code, os.strerror(self.code))


def narrow():
    return io.TextIOWrapper(io.BytesIO(), encoding="cp1252", newline="")


def shown(stream):
    stream.flush()
    return stream.buffer.getvalue().decode("cp1252")


def test_a_character_that_the_console_lacks_is_replaced(monkeypatch):
    stream = narrow()
    monkeypatch.setattr(sys, "stdout", stream)
    say("AUROC ↑ naïve")
    table = Table("Réseau ↑")
    table.add_row("猫")
    console().print(table)
    assert shown(stream).startswith("AUROC ? naïve\n")
    assert "Réseau ?" in shown(stream)


def test_markup_codes_and_escapes_in_a_text_are_only_text(capsys):
    say("[bold]x[/bold] :smile: \x1b[2J")
    console().print("[red]y[/red] :smile:")
    complain("no file '\x1b[31m'")
    with progress_bar("[bold]set[/bold] \x1b[2J", 2) as bar:
        bar.advance(2, "\x1b[2J")
    out, err = capsys.readouterr()
    assert out == "[bold]x[/bold] :smile: \\x1b[2J\n[red]y[/red] :smile:\n"
    assert err.startswith("mmood: no file '\\x1b[31m'\n")
    assert "\x1b[2J" not in err


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EPIPE, errno.EIO])
def test_a_stream_that_fails_is_given_up(code):
    output = LastingOutput(Failing(code))
    assert output.write("text") == 4
    output.flush()
    assert output.write("more") == 4
    assert output.fault.errno == code


def test_the_streams_are_put_back(capsys):
    before = sys.stdout, sys.stderr
    with contextlib.suppress(KeyboardInterrupt), lasting_output():
        print("inside")
        raise KeyboardInterrupt
    assert (sys.stdout, sys.stderr) == before
    assert capsys.readouterr().out == "inside\n"


def test_a_console_of_another_encoding_costs_no_test(toy_flags, tmp_path, monkeypatch):
    stream = narrow()
    monkeypatch.setattr(sys, "stdout", stream)
    arguments = ["test", "--config", "vitb16_zeroshot.yaml", *toy_flags, "--run_dir", str(tmp_path / "run")]
    assert main(arguments) == 0
    assert json.loads((tmp_path / "run" / "results.json").read_text())["rows"]
    assert "AUROC ?" in shown(stream)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EPIPE])
def test_an_output_that_cannot_be_written_costs_no_test(code, toy_flags, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdout", Failing(code))
    arguments = ["test", "--config", "vitb16_zeroshot.yaml", *toy_flags, "--run_dir", str(tmp_path / "run")]
    # A reader that leaves has seen enough; a full disk is a fault.
    assert main(arguments) == (0 if code == errno.EPIPE else 2)
    assert json.loads((tmp_path / "run" / "results.json").read_text())["rows"]
    assert ("The output cannot be written: No space left" in capsys.readouterr().err) == (code == errno.ENOSPC)


@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full")
def test_a_full_disk_behind_the_output_is_said_once_and_python_adds_nothing():
    with FULL.open("w") as full:
        command = [sys.executable, "-m", "mmood", "--help"]
        ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr == (
        "mmood: The output cannot be written: No space left on device. The files of the run are not affected.\n"
    )
