"""The memory of a detector that learns from the images it decides on, along a job that may be killed."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, cast, final

from mmood.detector.face import AbstractDecider
from mmood.errors import MmoodError

if TYPE_CHECKING:
    from mmood.detector.streams import StreamDetector


@final
class JobMemory:
    """Keeps the memory behind each block beside its rows, and that behind the last in a file of the user's.

    Args:
        detector: its memory is that of its folder.
        folder: of the job.
        file: with the memory to begin with, if it is there, and for that behind the last image; None for neither.
    """

    def __init__(self, detector: StreamDetector, folder: Path, file: Path | None) -> None:
        self.detector = detector
        self.folder = folder
        self.file = file
        if file is not None and file.exists():
            detector.load_state(file)

    @property
    def sha256(self) -> str:
        """The sha256 (hex) of the file that the job begins with; empty without one."""
        if self.file is None or not self.file.exists():
            return ""
        return hashlib.sha256(self.file.read_bytes()).hexdigest()

    def resume(self, block: int) -> None:
        """Take back the memory behind the last block that was made, before this one is."""
        if block and self._path(block - 1).is_file():
            self.detector.load_state(self._path(block - 1))
        elif block:
            raise MmoodError(f"{self.folder} has no memory for block {block - 1}; delete that folder to start over.")

    def keep(self, block: int) -> None:
        """Keep the memory behind a block, whose rows are written next."""
        self.detector.save_state(self._path(block))

    def forget(self, block: int) -> None:
        """Delete the memory behind a block that the one behind a later block makes useless."""
        self._path(block).unlink(missing_ok=True)

    def finish(self, blocks: int) -> None:
        """Write the memory behind the last image to the user's file."""
        if self.file is not None:
            self.resume(blocks)
            self.detector.save_state(self.file)

    def _path(self, block: int) -> Path:
        return self.folder / f"{block:08d}.memory.safetensors"


def job_memory(detector: AbstractDecider, folder: Path, file: Path | None) -> JobMemory | None:
    """Return the memory of a detector with a test-time score; None for any other.

    Raises:
        MmoodError: a file is given for a detector without memory, or it holds the memory of another detector.
    """
    if detector.manifest.stream is not None:
        return JobMemory(cast("StreamDetector", detector), folder, file)
    if file is not None:
        raise MmoodError(
            f"--memory is for a test-time score; the score '{detector.manifest.score.name}' of this detector learns "
            "nothing from the images."
        )
    return None
