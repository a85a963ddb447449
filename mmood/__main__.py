"""`mmood` and `python -m mmood`."""

import os
import sys

from mmood.cli.main import main


def run() -> None:
    """Run the command line and end the process with its exit code."""
    try:
        code = main()
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read the output (`| head`) has enough. The interpreter's last flush must not find the closed pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code)


if __name__ == "__main__":
    run()
