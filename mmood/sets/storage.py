"""Where the files of a set are: a folder or a zip file, and what can be told of them without reading them."""

from __future__ import annotations

import contextlib
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, final

import numpy as np
from numpy.typing import NDArray

from mmood.errors import MmoodError
from mmood.files import is_folder, utf8_name
from mmood.shards.tar import MAX_CONTENT_BYTES
from mmood.shards.walk import FoundImages, find_images

States = tuple[NDArray[np.int64], NDArray[np.int64]]
"""The size of each file, and a stamp that changes when the file does."""


class Storage(Protocol):
    """Files by their paths; can be pickled, and holds nothing open."""

    @property
    def place(self) -> Path:
        """Return the folder or the file."""

    def find(self) -> FoundImages:
        """Return the images in it; MmoodError if it is not what it should be."""

    def states(self, paths: Sequence[str]) -> States:
        """Return size and stamp of files; MmoodError names one that is missing or is no plain file."""

    def opened(self) -> AbstractContextManager[Callable[[str], bytes]]:
        """Return, for a block, what reads a file by its path; it raises OSError, ValueError or MmoodError."""


@final
@dataclass(frozen=True)
class Folder:
    """The files below a folder."""

    place: Path

    def find(self) -> FoundImages:
        """See Storage."""
        if not is_folder(self.place):
            raise MmoodError(f"There is no folder {utf8_name(str(self.place))}.")
        return find_images(self.place)

    def states(self, paths: Sequence[str]) -> States:
        """See Storage; the stamp is the time of the last change, in nanoseconds."""
        sizes, stamps = np.empty(len(paths), np.int64), np.empty(len(paths), np.int64)
        for number, path in enumerate(paths):
            try:
                found = (self.place / path).stat()
            except (OSError, ValueError) as error:  # ValueError: a NUL in the path
                raise unreadable(self.place, path, error) from error
            if not stat.S_ISREG(found.st_mode):
                raise unreadable(self.place, path, "it is not a file")
            sizes[number], stamps[number] = found.st_size, found.st_mtime_ns
        return sizes, stamps

    @contextlib.contextmanager
    def opened(self) -> Iterator[Callable[[str], bytes]]:
        """See Storage."""
        yield self._read

    def _read(self, path: str) -> bytes:
        with (self.place / path).open("rb") as file:
            content = file.read(MAX_CONTENT_BYTES + 1)
        if len(content) > MAX_CONTENT_BYTES:
            raise ValueError(f"it has more than {MAX_CONTENT_BYTES} bytes")
        return content


def unreadable(place: Path, path: str, error: Exception | str) -> MmoodError:
    """Return the error that names a file of a set and why it cannot be read."""
    reason = (error.strerror or error) if isinstance(error, OSError) else error
    return MmoodError(f"The image {utf8_name(str(place / path))} cannot be read: {str(reason).rstrip('.')}.")
