# ruff: noqa: PT012 - where a signal comes is what these tests are about
"""SIGTERM and Ctrl-C: the exit code, the sentence, and what is kept, wherever they come."""

import ctypes
import os
import signal
import time

import pytest

from mmood.runs import signals
from mmood.runs.signals import Ended, ends_at_signals, leaves, starting_workers, take_back, uninterrupted

BOTH = [(signal.SIGTERM, 143, "SIGTERM"), (signal.SIGINT, 130, "Ctrl-C")]


@pytest.fixture(autouse=True)
def ctrl_c_is_heard():
    """As in a terminal: what a script runs in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def come(number):
    """Let a signal come to this process, which does not go on after it."""
    os.kill(os.getpid(), number)
    time.sleep(5)
    pytest.fail("the signal did nothing")


@pytest.mark.parametrize(("number", "code", "name"), BOTH)
def test_a_signal_ends_a_command_with_a_sentence(number, code, name, capsys):
    before = signal.getsignal(number)
    with pytest.raises(Ended) as end, ends_at_signals("test"):
        come(number)
    assert end.value.code == code
    assert capsys.readouterr().err == f"mmood: test was stopped by {name}. No results were written.\n"
    assert signal.getsignal(number) is before


def test_whatever_comes_of_a_signal_is_its_end(capsys):
    with pytest.raises(Ended), ends_at_signals("fit"):
        try:
            come(signal.SIGTERM)
        except Ended as end:  # as where a library reports a worker that the signal killed too
            raise RuntimeError("DataLoader worker is killed by signal: Terminated.") from end
    with pytest.raises(Ended), ends_at_signals("fit"):
        try:
            come(signal.SIGTERM)
        except BaseException:  # as in a callback of the garbage collector
            time.sleep(0)
    assert capsys.readouterr().err.count("fit was stopped by SIGTERM. No checkpoint was written yet.") == 2


def test_an_error_without_a_signal_stays_what_it_is(capsys):
    with pytest.raises(ValueError, match="own"), ends_at_signals("test"):
        raise ValueError("own")
    assert not capsys.readouterr().err


def test_files_that_belong_together_are_written_first(tmp_path, capsys):
    with pytest.raises(Ended), ends_at_signals("test"):
        with uninterrupted():
            os.kill(os.getpid(), signal.SIGTERM)
            (tmp_path / "both").write_text("")
            leaves("test", "The results are written.")
        pytest.fail("the signal was forgotten")
    assert (tmp_path / "both").exists()
    assert "stopped by SIGTERM. The results are written." in capsys.readouterr().err


def test_a_command_in_a_command_is_ended_as_the_outer_one(capsys):
    with pytest.raises(Ended), ends_at_signals("demo"), ends_at_signals("fit"):
        leaves("fit", "A checkpoint.")
        come(signal.SIGTERM)
    assert capsys.readouterr().err == "mmood: demo was stopped by SIGTERM. Run the same command again to start over.\n"


def test_a_signal_that_was_ignored_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with ends_at_signals("test"):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.05)
    finally:
        signal.signal(signal.SIGINT, before)


def test_handlers_of_a_library_are_taken_back():
    with pytest.raises(Ended), ends_at_signals("test"):
        signal.signal(signal.SIGTERM, lambda number, frame: None)
        take_back()
        come(signal.SIGTERM)


def test_a_forked_worker_leaves_the_signals_to_the_main_process():
    with ends_at_signals("test"):
        child = os.fork()
        if child == 0:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGTERM)
            os._exit(7)
        assert os.waitpid(child, 0)[1] == signal.SIGTERM
        time.sleep(0.05)  # the parent was not woken


def blocked():
    """Wait in a library that never comes back, and does not let Python's handlers run."""
    signals.GRACE = 0.3
    # The process that it was forked from may have been started where Ctrl-C is ignored, or held back.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    mutex, libc = ctypes.create_string_buffer(64), ctypes.CDLL(None)
    libc.pthread_mutex_init(mutex, None)
    libc.pthread_mutex_lock(mutex)
    with ends_at_signals("fit"):
        leaves("fit", lambda: "Its checkpoint is X.")
        print("ready", flush=True)
        libc.pthread_mutex_lock(mutex)


@pytest.mark.parametrize(("number", "code", "name"), BOTH)
def test_a_process_that_hangs_in_a_library_ends_all_the_same(forked, number, code, name):
    process = forked.start(blocked)
    while "ready" not in process.out:
        time.sleep(0.01)
    process.send_signal(number)
    assert process.wait(20) == code
    assert process.err == f"mmood: fit was stopped by {name}. Its checkpoint is X.\n"


@pytest.mark.parametrize("within", [False, True])
def test_sigterm_ends_a_worker_that_has_hardly_begun(within):
    """With the handler of its parent it would note the signal, and the parent would wait for it at its end."""
    before = signal.signal(signal.SIGTERM, lambda number, frame: None)
    try:
        with starting_workers("fork"):
            child = os.fork()
            if child == 0:
                time.sleep(5)
                os._exit(7)
            if within:
                os.kill(child, signal.SIGTERM)
        os.kill(child, signal.SIGTERM)
        assert os.waitpid(child, 0)[1] == signal.SIGTERM
    finally:
        signal.signal(signal.SIGTERM, before)
