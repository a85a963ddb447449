"""One process at a time where two could write the same store or set.

The system lets go of a lock when its process ends, however it ends, so none stays behind. On NFS this holds between
nodes where the mount passes locks to the server (not with `nolock` or `local_lock`); where a file system has no locks
at all, a warning says so and the work goes on.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from mmood.errors import MmoodError
from mmood.output.printing import complain

_EVERY = 0.5  # seconds between two looks at a lock that another process holds
_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR)


@contextlib.contextmanager
def wait_for_lock(path: Path, what: str) -> Iterator[None]:
    """Hold the lock file `path` during the block; wait, after saying so, while another process holds it.

    Args:
        path: the lock; deleted at the end.
        what: what the holder does, such as "encodes sun into FOLDER".

    Raises:
        MmoodError: the lock file cannot be written.
    """
    with _opened(path) as lock:
        try:
            _acquire(lock, path)
        except Timeout:
            complain(f"Waiting for {holder(path)}, which {what}.")
            lock.acquire(timeout=-1, poll_interval=_EVERY)
        with _held(lock, path):
            yield


@contextlib.contextmanager
def lock_or_refuse(path: Path, what: str, advice: str) -> Iterator[None]:
    """Hold the lock file `path` during the block.

    Args:
        path: the lock; deleted at the end.
        what: what the holder does, such as "packs into FOLDER".
        advice: what to do where another process holds it.

    Raises:
        MmoodError: another process holds it, or it cannot be written.
    """
    with _opened(path) as lock:
        try:
            _acquire(lock, path)
        except Timeout as error:
            raise MmoodError(f"{holder(path).capitalize()} {what}; {advice}.") from error
        with _held(lock, path):
            yield


def holder(path: Path) -> str:
    """Return who holds a lock, in words."""
    try:
        pid, host = path.read_text(encoding="utf-8").splitlines()[:2]
    except (OSError, ValueError):  # just released, or not written yet
        return "another process"
    return f"process {pid} on {host}"


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BaseFileLock]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        file_there = isinstance(error, FileExistsError)
        reason = os.strerror(errno.ENOTDIR) if file_there else error.strerror or error
        raise MmoodError(f"{path.parent} cannot be written: {reason}.") from error
    # One lock object each: two threads of a process keep each other out like two processes.
    yield FileLock(path, thread_local=False)


def _acquire(lock: BaseFileLock, path: Path) -> None:
    try:
        lock.acquire(timeout=0)
    except OSError as error:
        if isinstance(error, Timeout):
            raise
        if not os.access(path.parent, os.W_OK) or error.errno in _UNWRITABLE:
            raise MmoodError(f"{path.parent} cannot be written: {error.strerror or error}.") from error
        complain(f"{path.parent} cannot be locked ({error.strerror or error}); no other process may write there.")


@contextlib.contextmanager
def _held(lock: BaseFileLock, path: Path) -> Iterator[None]:
    if not lock.is_locked:
        yield
        return
    try:
        path.write_text(f"{os.getpid()}\n{socket.gethostname()}\n", encoding="utf-8")
        yield
    finally:
        # While it is held: who waits for it then looks for the file again.
        path.unlink(missing_ok=True)
        lock.release()
