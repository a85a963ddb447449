"""`mmood` and `python -m mmood`."""

import os
import sys
import threading

from mmood.cli.main import main
from mmood.runs.signals import GRACE, Ended


def run() -> None:
    """Run the command line and end the process with its exit code."""
    try:
        code = main()
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read the output (`| head`) has enough. The interpreter's last flush must not find the closed pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except Ended as end:
        # What else runs at the end of a process (collectives, workers) may wait for another one.
        last = threading.Timer(GRACE, os._exit, [end.code])
        last.daemon = True
        last.start()
        raise
    sys.exit(code)


if __name__ == "__main__":
    run()
