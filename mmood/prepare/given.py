"""What users fetched themselves: the archives, lists and image folders below the folders of `--from`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mmood.errors import MmoodError
from mmood.files import is_folder
from mmood.recipes.recipe import Need, Recipe
from mmood.shards.archives import is_archive
from mmood.shards.walk import is_hidden

_DEPTH = 5
"""Folders below `--from` that are searched for names."""
_MOST_FOLDERS = 20_000
"""Folders whose names are remembered, at most: below a thousand class folders nothing is looked for."""


@dataclass(frozen=True)
class Given:
    """Archives, lists and folders by name in lower case, the shallowest first.

    Attributes:
        archives: zip and tar files.
        lists: text files.
        folders: folders, the ones given included.
    """

    archives: dict[str, list[Path]]
    lists: list[Path]
    folders: dict[str, list[Path]]

    def archive(self, need: Need) -> Path | None:
        """Return an archive that is called like one of the files of a need."""
        for file in need.files:
            if found := self.archives.get(file.name.lower()):
                return found[0]
        return None

    def image_list(self, need: Need) -> Path | None:
        """Return a list whose path ends like that of a list in an archive, such as `imagenet/test_ninco.txt`."""
        for file in need.files:
            wanted = (file.member or file.name).lower().split("/")
            for path in self.lists:
                if [part.lower() for part in path.parts[-len(wanted) :]] == wanted:
                    return path
        return None

    def places(self, recipe: Recipe) -> Iterator[Path]:
        """Yield folders and archives that are called as the set is in public layouts, the shallowest first."""
        for name in recipe.known_as:
            yield from self.folders.get(name, ())
            for suffix in (".zip", ".tar", ".tar.gz", ".tgz"):
                yield from self.archives.get(f"{name}{suffix}", ())


def look_in(folders: Iterable[Path]) -> Given:
    """Return what lies below some folders; MmoodError if one is not there."""
    given = Given({}, [], {})
    for folder in folders:
        if not is_folder(folder):
            raise MmoodError(f"There is no folder {folder} (`--from`).")
        _collect(folder.absolute(), given)
    return given


def _collect(folder: Path, given: Given) -> None:
    level = [folder]
    for _ in range(_DEPTH):
        below: list[Path] = []
        for place in level:
            given.folders.setdefault(place.name.lower(), []).append(place)
            below += _look(place, given)
        if len(below) > _MOST_FOLDERS:
            return
        level = below


def _look(place: Path, given: Given) -> list[Path]:
    """Sort in the files of a folder, and return the folders in it."""
    folders = []
    try:
        with os.scandir(place) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
    except OSError:
        return []
    for entry in entries:
        path = Path(entry.path)
        if is_hidden(entry.name):
            continue
        if entry.is_dir():
            folders.append(path)
        elif is_archive(path):
            given.archives.setdefault(entry.name.lower(), []).append(path)
        elif entry.name.lower().endswith(".txt"):
            given.lists.append(path)
    return folders
