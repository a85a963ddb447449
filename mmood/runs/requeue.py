"""Jobs that run out of time: the signal that says so, the exit code that asks for another turn, and where to go on.

SLURM sends SIGUSR1 some time before the limit. Lightning's handler saves at once, wherever each process and each of its
loader workers stands: between an optimiser's step and its count a batch is trained on twice, and a process in an
all-reduce of gradients waits for one that is in the checkpoint's barrier (of three jobs on two nodes one hung). Here
the signal is only noted; `callbacks.requeue` saves where all processes agree. The job's script requeues, as containers
have no `scontrol`.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

from mmood.errors import MmoodError

EXIT_CODE = 75
"""Exit code of a process whose job wants another turn (EX_TEMPFAIL of sysexits.h)."""
GRACE = 60.0
"""Seconds between the signal and the end, for a process that does not come to a place where it can save."""

_SIGNAL = signal.SIGUSR1
_asked = threading.Event()
_saving = threading.Event()


def listen(command: str) -> None:
    """Take the signal in this process, if it is one of a SLURM job.

    `fit` saves at the next place where it can; `embed` ends at once, as its parts lie on disk; all others begin again
    when they are requeued, so they go on as long as they may. To be called before threads are started: these inherit
    that the signal is blocked, so it comes to the thread that waits for it, also while the main one is in a collective.
    """
    if not _in_job():
        return
    if command not in ("fit", "embed"):
        signal.signal(_SIGNAL, signal.SIG_IGN)
        return
    # Also keeps Lightning from setting its own handler.
    signal.signal(_SIGNAL, lambda *_: _note())
    signal.pthread_sigmask(signal.SIG_BLOCK, {_SIGNAL})
    threading.Thread(target=_wait, args=(GRACE if command == "fit" else 0.0,), daemon=True).start()


def asked() -> bool:
    """Return whether the signal has come to this process."""
    return _asked.is_set()


def begin_saving() -> None:
    """Say that a checkpoint is being written, which takes the time that it takes."""
    _saving.set()


def job_id() -> str | None:
    """Return the id of the SLURM job that this process belongs to, None outside."""
    return os.environ["SLURM_JOB_ID"] if _in_job() else None


def turns() -> int:
    """Return how often the job of this process was requeued."""
    return int(os.environ.get("SLURM_RESTART_COUNT", 0)) if _in_job() else 0


def checkpoint_to_resume(folder: Path) -> Path | None:
    """Return the newest whole checkpoint of this job in `folder`, if it was requeued; None if there is nothing.

    What another job wrote into the folder does not count; a checkpoint that was cut in writing is passed over.
    """
    if turns() == 0:
        return None
    # `last.ckpt` may be a link to one of the others.
    found = {path.resolve() for path in folder.glob("*.ckpt") if path.is_file()}
    newest_first = sorted(found, key=lambda path: (path.stat().st_mtime_ns, path.name), reverse=True)
    return next((path for path in newest_first if _is_of_job(path, os.environ["SLURM_JOB_ID"])), None)


def _is_of_job(path: Path, job: str) -> bool:
    from mmood.runs.checkpoints import KEY, read_checkpoint

    try:
        checkpoint = read_checkpoint(path, "The checkpoint")
    except MmoodError as error:
        print(f"mmood: {path} is skipped. {error}", file=sys.stderr)
        return False
    return bool(checkpoint.get(KEY, {}).get("job") == job)


def _in_job() -> bool:
    # `salloc` and `srun --pty bash` name their jobs so, and Lightning takes these for no SLURM jobs.
    return "SLURM_JOB_ID" in os.environ and os.environ.get("SLURM_JOB_NAME") not in ("bash", "interactive")


def _note() -> None:
    if not _asked.is_set() and os.environ.get("SLURM_PROCID", "0") == "0":
        print(f"mmood: {_SIGNAL.name}: the job's time is nearly over.", file=sys.stderr, flush=True)
    _asked.set()


def _wait(grace: float) -> None:
    signal.sigwait({_SIGNAL})
    _note()
    time.sleep(grace)
    if not _saving.is_set():
        sys.stdout.flush()
        # Not sys.exit: the main thread may wait for a process that has ended.
        os._exit(EXIT_CODE)
