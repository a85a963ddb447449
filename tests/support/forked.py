"""Processes for tests, forked from one that has imported everything: 0.2 seconds of CPU each, not 6.

`python -m mmood` is launched for real only where the launch itself is what a test is about.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path

TIMEOUT = 300.0
"""Seconds after which a process that a test waits for is killed."""
AFTERWARDS = 60.0
"""Seconds that the other ranks have once one of them has failed."""

# What a run imports. None of it may start a thread: those would be missing in the forked processes.
_IMPORTED = [
    *("torch", "torchvision", "torchmetrics", "open_clip", "lightning.pytorch.cli", "pytest"),
    *("mmood.configuration.lightning", "mmood.cli.main"),
]
multiprocessing.set_forkserver_preload(_IMPORTED)


@dataclass(frozen=True)
class Finished:
    """The end of one process, or of the ranks of one run: the first exit code that is not 0, and all that they said."""

    code: int
    out: str
    err: str


class Forked:
    """A process that runs a function; what it prints goes to files.

    The exit code is what the function returns; as everywhere, None counts as 0, an exception as 1, and a signal as its
    negative number.
    """

    def __init__(self, process: ForkServerProcess, folder: Path) -> None:
        self._process = process
        self._folder = folder

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    @property
    def out(self) -> str:
        """What it has printed so far."""
        return (self._folder / "out").read_text()

    @property
    def err(self) -> str:
        """What it has printed to stderr so far."""
        return (self._folder / "err").read_text()

    def poll(self) -> int | None:
        """Return the exit code, None while the process runs."""
        return self._process.exitcode

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        os.kill(self.pid, number)

    def wait(self, timeout: float = TIMEOUT) -> int:
        """Return the exit code once the process has ended; kill it and fail if that takes too long."""
        self._process.join(timeout)
        if self.poll() is None:
            self.kill()
            raise AssertionError(f"the process has not ended within {timeout:.0f} seconds:\n{self.out}{self.err}")
        return self._process.exitcode

    def finished(self, timeout: float = TIMEOUT) -> Finished:
        """Return how the process ended, once it has."""
        return Finished(self.wait(timeout), self.out, self.err)

    def kill(self) -> None:
        """Kill the process if it still runs."""
        if self.poll() is None:
            self._process.kill()
            self._process.join()


class ForkServer:
    """Starts processes and ends those that are left.

    Args:
        folder: for the output of the processes.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._started: list[Forked] = []

    def start(
        self,
        function: Callable[..., int | None],
        *arguments: object,
        environment: Mapping[str, str | None] | None = None,
    ) -> Forked:
        """Start a function of a module in a process with the environment, working directory and `sys.path` of this one.

        `environment` adds variables, or removes those that are None. What a test has patched is not patched there.
        """
        folder = self._folder / str(len(self._started))
        folder.mkdir()
        for name in ("out", "err"):
            (folder / name).touch()
        variables = {**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})}
        kept = {name: value for name, value in variables.items() if value is not None}
        setting = (folder, kept, Path.cwd())
        process = multiprocessing.get_context("forkserver").Process(target=_run, args=(*setting, function, arguments))
        process.start()
        self._started.append(Forked(process, folder))
        return self._started[-1]

    def call(
        self,
        function: Callable[..., int | None],
        *arguments: object,
        environment: Mapping[str, str | None] | None = None,
    ) -> Finished:
        """Run a function in a process and return how it ended; see `start`."""
        return self.start(function, *arguments, environment=environment).finished()

    def command(self, arguments: list[str], environment: Mapping[str, str | None] | None = None) -> Finished:
        """Run `mmood` with these arguments; see `start`."""
        return self.call(mmood, arguments, environment=environment)

    def paused(self, place: str, folder: Path, arguments: list[str]) -> Forked:
        """Start `mmood` with these arguments and return once it stands still; see `mmood_paused`."""
        process = self.start(mmood_paused, place, folder, arguments)
        while not (folder / "there").exists():
            assert process.poll() is None, process.err
            time.sleep(0.02)
        return process

    def start_ranks(
        self,
        function: Callable[..., int | None],
        *arguments: object,
        count: int = 2,
        environment: Mapping[str, str | None] | None = None,
    ) -> list[Forked]:
        """Start a function in several processes as `torchrun` does; see `start`."""
        shared = {
            **{"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "TORCHELASTIC_RUN_ID": "test"},
            **{"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count), "GROUP_RANK": "0", **(environment or {})},
        }
        return [
            self.start(function, *arguments, environment={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)})
            for rank in range(count)
        ]

    def ranks(
        self, arguments: list[str], count: int = 2, environment: Mapping[str, str | None] | None = None
    ) -> Finished:
        """Run `mmood` with these arguments on several ranks; see `start_ranks`."""
        spread = [*arguments, "--trainer.devices", str(count), "--trainer.strategy", "ddp"]
        started = self.start_ranks(mmood, spread, count=count, environment=environment)
        _until_all_have_ended(started)
        ended = [rank.finished() for rank in started]
        code = next((one.code for one in ended if one.code != 0), 0)
        return Finished(code, "".join(one.out for one in ended), "".join(one.err for one in ended))

    def end(self) -> None:
        """Kill what still runs."""
        for process in self._started:
            process.kill()


def mmood(arguments: list[str]) -> int:
    """Run the command line as `python -m mmood` does."""
    from mmood.cli.main import main

    sys.argv = ["mmood", *arguments]
    return main()


def mmood_paused(place: str, folder: Path, arguments: list[str]) -> int:
    """Run the command line; before the first call of `place` (`module:function`) wait until `folder/release` is there.

    `folder/there` says that it waits.
    """
    module_name, _, path = place.partition(":")
    owner: object = importlib.import_module(module_name)
    *outer, last = path.split(".")
    for name in outer:
        owner = getattr(owner, name)
    function = getattr(owner, last)

    def paused(*given: object, **named: object) -> object:
        (folder / "there").touch()
        while not (folder / "release").exists():
            time.sleep(0.02)
        return function(*given, **named)

    setattr(owner, last, paused)
    return mmood(arguments)


def free_port() -> int:
    """Return a port of this machine that nobody listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _until_all_have_ended(processes: list[Forked]) -> None:
    end = time.monotonic() + TIMEOUT
    while any(process.poll() is None for process in processes):
        if any(process.poll() for process in processes):
            end = min(end, time.monotonic() + AFTERWARDS)
        if time.monotonic() > end:
            said = "\n".join(f"{process.poll()}: {process.err}" for process in processes)
            for process in processes:
                process.kill()
            raise AssertionError(f"some of the ranks have not ended; exit code and stderr of each:\n{said}")
        time.sleep(0.02)


def _run(
    folder: Path,
    environment: dict[str, str],
    directory: Path,
    function: Callable[..., int | None],
    arguments: tuple[object, ...],
) -> None:
    """What the forked process does."""
    for descriptor, name in ((1, "out"), (2, "err")):
        file = os.open(folder / name, os.O_WRONLY | os.O_APPEND)
        os.dup2(file, descriptor)
        os.close(file)
    # Line by line: what a process has said is there when it is killed.
    sys.stdout.reconfigure(line_buffering=True)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(directory)
    # As in a process of a user. The fork server's own method would start another server for the workers of loaders, and
    # they would outlive a process that is killed.
    multiprocessing.set_start_method(multiprocessing.get_all_start_methods()[0], force=True)
    import torch

    torch.set_num_threads(1)
    sys.exit(function(*arguments))
