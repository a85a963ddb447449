"""Two processes in one place: who comes second waits or says who is there; a dead one blocks nobody."""

import fcntl
import os
import socket
import threading
import time
from pathlib import Path

import pytest

from mmood.cli.main import main
from mmood.errors import MmoodError
from mmood.files import UNFINISHED, whole_file, write_atomically, writing
from mmood.runs.locks import lock_or_refuse, wait_for_lock


def hold(path, release):
    with wait_for_lock(Path(path), "works"):
        print("held", flush=True)
        while not Path(release).exists():
            time.sleep(0.01)


@pytest.fixture
def other(forked, tmp_path):
    """A process that holds a lock, and the file that lets it go on."""
    process = forked.start(hold, str(tmp_path / ".lock"), str(tmp_path / "release"))
    while "held" not in process.out:
        time.sleep(0.01)
    return process, tmp_path / "release"


def test_the_second_waits_or_says_who_works_there(other, tmp_path, capsys):
    process, release = other
    named = f"process {process.pid} on {socket.gethostname()}"
    with pytest.raises(MmoodError) as refused, lock_or_refuse(tmp_path / ".lock", "packs into X", "wait for it"):
        pytest.fail("two hold the lock")
    assert str(refused.value) == f"{named.capitalize()} packs into X; wait for it."
    threading.Timer(0.3, release.touch).start()
    with wait_for_lock(tmp_path / ".lock", "encodes sun"):
        assert release.exists()
    assert capsys.readouterr().err == f"mmood: Waiting for {named}, which encodes sun.\n"
    assert not (tmp_path / ".lock").exists()


def test_a_killed_holder_blocks_nobody(other, tmp_path, capsys):
    process, _ = other
    process.kill()
    with lock_or_refuse(tmp_path / ".lock", "", ""):
        assert (tmp_path / ".lock").read_text().startswith(f"{os.getpid()}\n")
    assert not capsys.readouterr().err


def test_two_runs_do_not_write_into_one_folder(toy_flags, forked, tmp_path, capsys):
    flags = ["test", "--config", "vitb16_zeroshot.yaml", *toy_flags, "--run_dir", str(tmp_path / "run")]
    first = forked.paused("mmood.evaluation.callback:write_scores", tmp_path, flags)
    assert main(flags) == 2
    assert f"Process {first.pid} on {socket.gethostname()} writes into {tmp_path / 'run'}" in capsys.readouterr().err
    (tmp_path / "release").touch()
    assert first.wait() == 0, first.err
    assert (tmp_path / "run/results.json").exists()
    assert not (tmp_path / "run/.lock").exists()


def left(folder):
    return sorted(path.name for path in folder.iterdir())


def test_what_killed_processes_left_is_deleted(tmp_path, monkeypatch):
    host = writing._host()
    names = {name: tmp_path / f".{name}.{machine}.abc{UNFINISHED}" for name, machine in
             (("dead", host), ("alive", host), ("elsewhere", "node7"), ("old", "node7"))}  # fmt: skip
    for path in names.values():
        path.write_bytes(b"half")
    (tmp_path / ".profile").write_text("")
    os.utime(names["old"], (0, 0))
    with names["alive"].open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        write_atomically(tmp_path / "new", b"whole")
        kept = [".profile", names["alive"].name, names["elsewhere"].name, "new"]
        assert left(tmp_path) == sorted(kept)


def test_a_file_under_way_is_not_deleted_by_others(tmp_path):
    with whole_file(tmp_path / "slow") as file:
        file.write(b"first")
        write_atomically(tmp_path / "fast", b"whole")
        file.write(b"second")
    assert (tmp_path / "slow").read_bytes() == b"firstsecond"
    assert left(tmp_path) == ["fast", "slow"]
