"""Files that are either whole or not there."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from mmood.errors import MmoodError

UNFINISHED = ".unfinished"
"""How the name of a file ends that is being written."""

_DAY = 24 * 60 * 60  # seconds


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Yield a file that takes the place of `path` when the block ends, and is deleted if it raises.

    A reader sees the old file or the new one, never a part, also if the machine goes down. What a killed process left
    of an earlier attempt in the folder is deleted.

    Raises:
        MmoodError: the file cannot be written; names the reason (no space, read-only).
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_unfinished(path.parent)
        handle, temporary = _locked_temporary(path)
        # Closed, and the lock with it, when the file has its name.
        with os.fdopen(handle, "wb") as file:
            try:
                yield file
                file.flush()
                os.fsync(file.fileno())
                temporary.chmod(0o644)
                temporary.replace(path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise MmoodError(f"{path} cannot be written: {error.strerror or error}.") from error


def _locked_temporary(path: Path) -> tuple[int, Path]:
    """Return a new file beside `path`, open and locked, which says that its process is alive."""
    while True:
        handle, name = tempfile.mkstemp(UNFINISHED, f".{path.name}.{_host()}.", path.parent)
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink:
            return handle, Path(name)
        os.close(handle)  # somebody tidied up before it was locked


def remove_unfinished(folder: Path) -> None:
    """Delete the temporary files that killed processes left in a folder.

    One of this machine is dead if nobody locks it; one of another machine, whose locks may not be seen here, if it is
    a day old besides.
    """
    for path in folder.glob(f".*{UNFINISHED}"):
        with contextlib.suppress(OSError), path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if f".{_host()}." in path.name or time.time() - os.fstat(file.fileno()).st_mtime > _DAY:
                path.unlink()


def _host() -> str:
    return re.sub(r"[^\w-]", "-", socket.gethostname())[:32]


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` to `path`, whole or not at all; MmoodError names the reason if it cannot be."""
    with whole_file(path) as file:
        file.write(content)
