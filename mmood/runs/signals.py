"""SIGTERM and Ctrl-C end every command in the same way: wherever it stands, on every rank, and in one sentence.

The handler raises `Ended` in the main thread, so that files under way are deleted and workers end. It is no
KeyboardInterrupt, upon which Lightning exits with 1. A main thread that does not come back from a library in time (it
may wait for another process) is not waited for: a second thread sees the signal at once and ends the process after
`GRACE`.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import final

from mmood.output.printing import complain

NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}
GRACE = 10.0
"""Seconds between the signal and the end, for a process that does not end by itself."""
MAIN_PROCESS = "MMOOD_MAIN_PROCESS"
"""Environment variable: process id of the main process, for the ranks that Lightning starts from it."""

_STOP = 0  # no signal has this number
_IMPATIENT = 1.0  # seconds after which another Ctrl-C is a second one, not the same that came in two ways
_OUTCOMES = {
    "fit": "No checkpoint was written yet.",
    "validate": "No results were written.",
    "test": "No results were written.",
    "predict": "No predictions were written.",
    "embed": "Encoded features are kept; run the same command again to resume.",
    "propose": "Answers that have come are kept; run the same command again to ask for the others.",
    "demo": "Run the same command again to start over.",
}
_NOTHING = "Nothing was written."


@final
class Ended(SystemExit):
    """A signal ends the process; the exit code is 128 plus its number."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)


@final
class _Ending:
    """How this process ends at a signal.

    Args:
        command: which is running.
    """

    def __init__(self, command: str) -> None:
        self.command = command
        self.outcome: Callable[[], str] = lambda: _OUTCOMES.get(command, _NOTHING)
        self.pass_on: Callable[[int], object] = lambda number: None
        self.leads_ranks = False
        self.number: int | None = None
        self.uninterrupted = 0
        self.handled = {number for number in NAMES if signal.getsignal(number) is not signal.SIG_IGN}
        self.asked = False
        self._ended = False
        self._said = threading.Lock()
        self._passed_on = False

    def take(self) -> None:
        """Set the handlers."""
        for number in self.handled:
            signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if follows_main_process():
            # Lightning kills the main process when a rank ends before it, so this one ends after it.
            if not self._passed_on:
                self._passed_on = True
                os.kill(os.getppid(), signal.SIGTERM)
        elif not self._ended:
            self._ended = True
            # The other thread is often first.
            self.number = self.number or number
            self.pass_on(signal.SIGTERM)
            if not self.uninterrupted:
                raise Ended(self.number)

    def say(self) -> None:
        """Say once, on the first rank, which signal it was and what there is."""
        if self.number is not None and self._said.acquire(blocking=False) and is_first_rank():
            complain(f"{self.command} was stopped by {NAMES[signal.Signals(self.number)]}. {self.outcome()}")

    def watch(self, wake: int) -> None:
        """End the process if its main thread does not; returns when it reads `_STOP`."""
        first: float | None = None
        while True:
            ready = select.select([wake], [], [], None if first is None else 0.1)[0]
            came = os.read(wake, 1)[0] if ready else None
            if came == _STOP:
                return
            now = time.monotonic()
            self.asked = self.asked or came in NAMES
            if came in NAMES and not follows_main_process():
                first = now if first is None else first
                self.number = came if self.number is None else self.number
                if came == signal.SIGINT and now - first > _IMPATIENT:
                    self._end()
            if self.uninterrupted and first is not None:
                first = max(first, now - _IMPATIENT)
            if first is not None and now - first > GRACE:
                self._end()

    def _end(self) -> None:
        assert self.number is not None
        for child in multiprocessing.active_children():
            child.terminate()
        if sys.stderr.isatty():
            print("\x1b[?25h", end="", file=sys.stderr)  # a progress bar hides the cursor
        self.say()
        os._exit(128 + self.number)


_current: _Ending | None = None
_forking = False


@contextlib.contextmanager
def ends_at_signals(command: str) -> Iterator[None]:
    """Let SIGTERM and Ctrl-C end the block; within another such block, and beside the main thread, do nothing.

    A signal that was ignored when the process started (`nohup`, a job in the background of a script) stays ignored.

    Raises:
        Ended: a signal came, whatever else came of it.
    """
    global _current
    if _current is not None or threading.current_thread() is not threading.main_thread():
        yield
        return
    ending = _Ending(command)
    if int(os.environ.get("LOCAL_RANK", 0)) == 0:
        os.environ[MAIN_PROCESS] = str(os.getpid())
    before = {number: signal.getsignal(number) for number in NAMES}
    wake, woken = os.pipe()
    os.set_blocking(woken, False)
    earlier = signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    watch = threading.Thread(target=ending.watch, args=(wake,), daemon=True)
    watch.start()
    try:
        _current = ending
        ending.take()
        yield
        _raise_if_ended(ending)
    except BaseException as error:
        if ending.asked and ending.number is None:
            ending.number = signal.SIGTERM  # a further rank, whose main process has ended
        if not isinstance(error, Ended):
            _raise_if_ended(ending)
        raise
    finally:
        if os.environ.get(MAIN_PROCESS) == str(os.getpid()):
            del os.environ[MAIN_PROCESS]
        for number, handler in before.items():
            signal.signal(number, handler)
        if ending.leads_ranks and ending.number is not None:
            # A rank that the signal reached as well may pass it on only now.
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        _current = None
        ending.say()
        signal.set_wakeup_fd(earlier)
        os.write(woken, bytes([_STOP]))
        watch.join()
        os.close(woken)
        os.close(wake)


def _raise_if_ended(ending: _Ending) -> None:
    if ending.number is not None:
        raise Ended(ending.number)


def asked() -> bool:
    """Return whether a signal came to this process, though it may be the main process that has to end first."""
    return _current is not None and _current.asked


def take_back(pass_on: Callable[[int], object] | None = None) -> None:
    """Set the handlers again where a library has set its own; `pass_on` sends a signal to the other ranks."""
    if _current is not None:
        if pass_on is not None:
            _current.pass_on, _current.leads_ranks = pass_on, True
        if threading.current_thread() is threading.main_thread():
            _current.take()


def leaves(command: str, outcome: str | Callable[[], str]) -> None:
    """Say what a command leaves from now on if a signal comes: a sentence, or what gives it at the end.

    Within another command, such as `demo`, nothing changes.
    """
    if _current is not None and _current.command == command:
        _current.outcome = outcome if callable(outcome) else lambda: outcome


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Let a signal wait until the block is done: for writing files that belong together."""
    if _current is None:
        yield
        return
    ending = _current
    ending.uninterrupted += 1
    try:
        yield
    finally:
        ending.uninterrupted -= 1
        if not ending.uninterrupted:
            _raise_if_ended(ending)


@contextlib.contextmanager
def starting_workers(start_method: str | None) -> Iterator[None]:
    """Start worker processes in the block: Ctrl-C is left to the main process, and SIGTERM ends them from the start.

    A terminal sends Ctrl-C to all processes. A forked process begins with the handlers of its parent, and a process
    that ends sends SIGTERM to its workers and waits for them: one that gets it before its own handler is set would note
    it, as Lightning's handler does, and both would wait for ever. So it is held back until then.

    Args:
        start_method: how the processes are made; None for the platform's own way.
    """
    global _forking
    forking = (start_method or multiprocessing.get_start_method()) == "fork"
    held = {signal.SIGINT, signal.SIGTERM} if forking else {signal.SIGINT}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, held)
    _forking = forking
    try:
        yield
    finally:
        _forking = False
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def follows_main_process() -> bool:
    """Return whether this is a further rank, started by a main process that is alive."""
    return int(os.environ.get("LOCAL_RANK", 0)) > 0 and os.environ.get(MAIN_PROCESS) == str(os.getppid())


def is_first_rank() -> bool:
    """Return whether this is the first process of its run, or the only one."""
    return all(os.environ.get(name, "0") == "0" for name in ("RANK", "SLURM_PROCID", "NODE_RANK", "LOCAL_RANK"))


def _in_child() -> None:
    """Give the signals back in a forked worker: the main process ends it."""
    global _current, _forking
    if _current is not None:
        signal.set_wakeup_fd(-1)
    if _current is not None or _forking:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    if _forking:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    _current, _forking = None, False


os.register_at_fork(after_in_child=_in_child)
