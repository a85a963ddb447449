"""What mmood prints: shown on every console as well as it can be, and never at the cost of the work."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, TextIO, cast, final

from mmood.output.escaping import visible

_START = time.monotonic()
"""When this was imported, which the command line does first of all."""


@final
class LastingOutput(io.TextIOBase):
    """Passes text on to a stream, whatever becomes of it.

    A character that the stream's encoding lacks becomes a question mark. A stream that fails (a full disk, a pipe whose
    reader has left) is given up, so that it costs what was to be shown and not the run.

    Args:
        stream: where the text goes.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.fault: OSError | None = None

    @property
    def encoding(self) -> str:  # type: ignore[override]  # a plain attribute there
        """The stream's encoding."""
        return self.stream.encoding or "utf-8"

    @property
    def buffer(self) -> BinaryIO:
        """The stream's bytes."""
        return self.stream.buffer

    def writable(self) -> bool:
        """Return true."""
        return True

    def isatty(self) -> bool:
        """Return whether the stream is a terminal."""
        return self.stream.isatty()

    def fileno(self) -> int:
        """Return the stream's file descriptor."""
        return self.stream.fileno()

    def write(self, text: str) -> int:
        """Write a text; returns its length."""
        if self.fault is None:
            try:
                self.stream.write(text.encode(self.encoding, "replace").decode(self.encoding))
            except OSError as error:
                self.fault = error
        return len(text)

    def flush(self) -> None:
        """Bring what was written on its way."""
        if self.fault is None:
            try:
                self.stream.flush()
            except OSError as error:
                self.fault = error


@contextlib.contextmanager
def lasting_output() -> Iterator[LastingOutput]:
    """Let standard output and standard error be such streams for the length of a block; yields the output."""
    before = sys.stdout, sys.stderr
    out, err = LastingOutput(before[0]), LastingOutput(before[1])
    sys.stdout, sys.stderr = cast("TextIO", out), cast("TextIO", err)
    try:
        yield out
    finally:
        out.flush()
        err.flush()
        sys.stdout, sys.stderr = before
        for stream in (out, err):
            if stream.fault is not None:
                _give_up(stream)


def _give_up(stream: LastingOutput) -> None:
    """Let what Python still holds for a stream go nowhere: at its end it would try again, and complain."""
    with contextlib.suppress(OSError), Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())


def say(line: str) -> None:
    """Print a line; what a name in it holds is shown, not obeyed."""
    lasting(sys.stdout).write(f"{visible(line)}\n")


def complain(sentence: str) -> None:
    """Print a sentence of mmood's to standard error."""
    stream = lasting(sys.stderr)
    stream.write(f"mmood: {visible(sentence)}\n")
    stream.flush()


def note(what: str) -> None:
    """Print to standard error what begins now, after the seconds since `mmood` was started."""
    stream = lasting(sys.stderr)
    stream.write(f"{time.monotonic() - _START:5.0f} s  {visible(what)}\n")
    stream.flush()


def lasting(stream: TextIO | LastingOutput) -> LastingOutput:
    """Return the stream as such an output, whatever it was."""
    return stream if isinstance(stream, LastingOutput) else LastingOutput(stream)
