"""The processes that other tests start: whose environment and exit code they have, and that none is left."""

import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path

import pytest
import torch


def report(*names):
    print(os.getpid(), Path.cwd(), *(os.environ.get(name) for name in names), torch.get_num_threads())
    print("to stderr", file=sys.stderr)
    return 3


def modules_and_threads():
    threads = len(list(Path("/proc/self/task").iterdir()))
    print("lightning.pytorch.cli" in sys.modules, threads, multiprocessing.get_start_method())


def sleep():
    print("asleep")
    time.sleep(600)


def fails():
    raise ValueError("of the test")


def test_environment_output_and_exit_code(forked, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OWN", "1")
    ended = forked.call(report, "OWN", "MORE", "HOME", environment={"MORE": "2", "HOME": None})
    pid, *said = ended.out.split()
    assert int(pid) != os.getpid()
    assert said == [str(tmp_path), "1", "2", "None", "1"]
    assert (ended.code, ended.err) == (3, "to stderr\n")


def test_all_is_imported_before_and_no_thread_was_lost(forked):
    assert forked.call(modules_and_threads).out == f"True 1 {multiprocessing.get_start_method()}\n"


def test_signals_and_exceptions_are_exit_codes(forked):
    asleep = forked.start(sleep)
    while not asleep.out:
        time.sleep(0.01)
    assert asleep.poll() is None
    asleep.send_signal(signal.SIGTERM)
    assert asleep.wait() == -signal.SIGTERM
    failed = forked.call(fails)
    assert failed.code == 1
    assert "ValueError: of the test" in failed.err


def test_what_takes_too_long_is_killed(forked):
    asleep = forked.start(sleep)
    with pytest.raises(AssertionError, match="has not ended within 0 seconds"):
        asleep.wait(timeout=0.1)
    assert asleep.poll() == -signal.SIGKILL
    left = forked.start(sleep)
    forked.end()
    assert left.poll() == -signal.SIGKILL


def test_ranks_have_what_torchrun_sets(forked):
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_PORT")
    first, second = (rank.finished().out.split()[2:6] for rank in forked.start_ranks(report, *names))
    assert (first[:3], second[:3]) == (["0", "0", "2"], ["1", "1", "2"])
    assert first[3] == second[3]


def test_the_command_line(forked):
    assert forked.command(["--version"]).out.startswith("mmood ")
    ended = forked.command(["tset"])
    assert ended.code == 2
    assert "did you mean 'test'" in ended.err
