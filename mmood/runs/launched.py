"""Processes that belong together: they end together, and the last one says so in a sentence."""

from __future__ import annotations

import _thread
import os
import re
import signal
import sys
import threading
import time

from mmood.runs.signals import GRACE, MAIN_PROCESS, asked

EXIT_CODE = 1
_EVERY = 1.0  # seconds
# How gloo and NCCL say that the process at the other end is gone.
_LOST_PEER = re.compile(
    r"Connection (closed|reset) by (remote )?peer|remote process exited|remote worker crashing|Broken pipe"
)


def lost_peer(error: RuntimeError) -> bool:
    """Return whether a collective failed because another process of the run is gone."""
    return _LOST_PEER.search(str(error)) is not None


def follow_parent() -> None:
    """End this process soon after its parent, if it is a further rank of a run on this machine.

    Lightning's main process ends the others when one of them dies. Nobody does so when it is the main process that is
    killed: the others would go on until they wait for it, which may be hours of encoding.
    """
    if int(os.environ.get("LOCAL_RANK", 0)) > 0:
        # The main process may have ended before this one came here.
        parent = int(os.environ.get(MAIN_PROCESS, os.getppid()))
        threading.Thread(target=_follow, args=(parent,), daemon=True).start()


def _follow(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_EVERY)
    if not asked():
        rank = os.environ.get("LOCAL_RANK")
        print(
            f"mmood: The main process of this run ended early, so rank {rank} stops too.", file=sys.stderr, flush=True
        )
    _thread.interrupt_main(signal.SIGTERM)
    # The main thread may wait for the process that is gone.
    time.sleep(GRACE)
    os._exit(EXIT_CODE)
