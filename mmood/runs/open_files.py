"""The limit of open files of a process (`ulimit -n`): raised for workers where the system lets it be, else named."""

from __future__ import annotations

import errno
import os
import resource
from pathlib import Path

from mmood.errors import MmoodError

_OTHERS = 24  # what libraries, shards, sockets and files being written take, at most
_PIPES = 4  # of each worker, in the main process and in every worker that is forked after it
_TENSORS = 3  # image, label and key of a batch travel as open files
_TOO_MANY = os.strerror(errno.EMFILE)


def needed_by_workers(workers: int, prefetch: int) -> int:
    """Return how many files a process opens, at most, to read with these workers: it or one of them.

    Args:
        workers: worker processes of the loader.
        prefetch: batches that each prepares in advance.
    """
    main = workers * (_PIPES + _TENSORS * prefetch)
    worker = _PIPES * (workers + prefetch)
    return _OTHERS + max(main, worker)


def make_room(workers: int, prefetch: int) -> None:
    """Raise the soft limit of open files, up to the hard one, to what reading with these workers takes.

    torch hangs or ends in a traceback where files run out between a worker and the main process.

    Raises:
        MmoodError: the hard limit is too low; names it and what to do.
    """
    if workers == 0:
        return
    needed = sum(1 for _ in Path("/dev/fd").iterdir()) + needed_by_workers(workers, prefetch)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or needed <= soft:
        return
    if hard != resource.RLIM_INFINITY and needed > hard:
        raise MmoodError(
            f"A process may open only {hard} files here, and reading with {workers} workers needs up to {needed}: "
            f"raise the limit (`ulimit -n {max(1024, needed)}`), or set --data.loader.workers 0."
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def no_room(error: OSError | RuntimeError) -> bool:
    """Return whether an error says that no further file may be opened; torch says it as a RuntimeError."""
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        return True
    return _TOO_MANY in str(error)


def advice() -> str:
    """Return the sentence on a limit that was reached."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return f"The limit of open files ({limit}) is reached: raise it (`ulimit -n 1024`), or set fewer loader workers."
