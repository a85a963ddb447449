"""A zip file as the folder that it was made from."""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import final

import numpy as np

from mmood.errors import MmoodError
from mmood.files import is_file, utf8_name
from mmood.images.formats import IMAGE_EXTENSIONS
from mmood.sets.storage import States
from mmood.shards.archives import AbstractArchive, Member, is_hidden_path, open_archive
from mmood.shards.walk import HIDDEN, FoundImage, FoundImages, sort_in


@final
@dataclass(frozen=True)
class Zip:
    """The files of a zip file, or of the one folder in it; see `zip_at`.

    Nothing is unpacked, and what `mmood.shards.archives` does not trust is refused.

    Attributes:
        place: the zip file.
        top: what all paths begin with.
    """

    place: Path
    top: str = ""

    def find(self) -> FoundImages:
        """See Storage."""
        images: list[FoundImage] = []
        with _opened(self.place) as archive:
            passed_over = archive.passed_over
            for path, member in self._members(archive).items():
                if is_hidden_path(path):
                    passed_over.add(HIDDEN, path)
                else:
                    sort_in(path, partial(archive.read, member), images, passed_over)
        folders = {image.path.partition("/")[0] for image in images if "/" in image.path}
        return FoundImages(sorted(images), sorted(folders), passed_over)

    def states(self, paths: Sequence[str]) -> States:
        """See Storage; the stamp is the time of the last change of the zip file, in nanoseconds."""
        with _opened(self.place) as archive:
            members = self._members(archive)
        stamp = self.place.stat().st_mtime_ns
        return np.array([members[path].size for path in paths], np.int64), np.full(len(paths), stamp, np.int64)

    @contextlib.contextmanager
    def opened(self) -> Iterator[Callable[[str], bytes]]:
        """See Storage."""
        with _opened(self.place) as archive:
            yield partial(_content, archive, self._members(archive))

    def _members(self, archive: AbstractArchive) -> dict[str, Member]:
        members: dict[str, Member] = {}
        for member in archive.members:
            path = member.path.removeprefix(self.top)
            if path in members:
                raise MmoodError(f"{self.place} cannot be trusted: it has two files called '{member.path:.80}'.")
            members[path] = member
        return members


def zip_at(path: Path) -> Zip:
    """Return a zip file as a folder; where all its images are in one folder, as zip programs write it, that folder.

    Raises:
        MmoodError: it is missing, is no zip file, is damaged, or cannot be trusted.
    """
    with _opened(path) as archive:
        paths = [member.path for member in archive.members if not is_hidden_path(member.path)]
    images = [path for path in paths if path.rpartition(".")[2].lower() in IMAGE_EXTENSIONS]
    tops = {path.partition("/")[0] if "/" in path else "" for path in images}
    return Zip(path, f"{top}/" if len(tops) == 1 and (top := tops.pop()) else "")


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[AbstractArchive]:
    if not is_file(path):
        raise MmoodError(f"There is no zip file {utf8_name(str(path))}.")
    if not zipfile.is_zipfile(path):
        raise MmoodError(f"{utf8_name(str(path))} is not a zip file, or is damaged.")
    archive = open_archive(path)
    try:
        yield archive
    finally:
        archive.close()


def _content(archive: AbstractArchive, members: dict[str, Member], path: str) -> bytes:
    if path not in members:
        raise ValueError("it is not in the zip file any more")
    return archive.read(members[path])
