"""The images below a folder: one walk for whatever reads folders."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from mmood.images.formats import IMAGE_EXTENSIONS, NOT_READ, READ, format_of
from mmood.shards.passed_over import PassedOver

_BEGIN = 64
"""Bytes at the begin of a file that tell its format."""

# Folders and files of systems, file managers and archives, besides those whose names begin with a dot.
_SYSTEM = frozenset(
    {
        "@eadir", "#recycle", "$recycle.bin", "__macosx", "__pycache__", "desktop.ini", "lost+found",
        "system volume information", "thumbs.db",
    }
)  # fmt: skip

HIDDEN = "hidden or system files and folders"
NO_IMAGE = "files that are not images"
DANGLING = "broken links"
CIRCLE = "links to a parent folder"
UNREADABLE = "folders that cannot be read"


class FoundImage(NamedTuple):
    """An image: its path below the folder (POSIX), and why it cannot be read ("" if it can)."""

    path: str
    reason: str = ""


@dataclass(frozen=True)
class FoundImages:
    """What a walk found.

    Attributes:
        images: sorted by path; also those in formats that are known and not read.
        folders: names of the folders directly below, hidden and system folders left out.
        passed_over: everything else.
    """

    images: list[FoundImage]
    folders: list[str]
    passed_over: PassedOver


def find_images(folder: Path) -> FoundImages:
    """Return the images in a folder and all folders below it.

    Links are followed, but not back to a folder above. An image is what has an image's extension, or any other name and
    an image's content. Hidden and system files and folders are passed over.
    """
    images: list[FoundImage] = []
    folders: list[str] = []
    passed_over = PassedOver()
    left: list[tuple[str, frozenset[tuple[int, int]]]] = [("", frozenset())]
    while left:
        below, above = left.pop()
        try:
            state = (folder / below).stat()
            if (state.st_dev, state.st_ino) in above:
                passed_over.add(CIRCLE, below)
                continue
            with os.scandir(folder / below) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError:
            passed_over.add(UNREADABLE, below or str(folder))
            continue
        inside = above | {(state.st_dev, state.st_ino)}
        for entry in entries:
            path = f"{below}/{entry.name}" if below else entry.name
            if is_hidden(entry.name):
                passed_over.add(HIDDEN, path)
            elif entry.is_dir():
                left.append((path, inside))
                folders += [] if below else [path]
            elif entry.is_file():
                sort_in(path, partial(_begin, folder / path), images, passed_over)
            else:
                passed_over.add(DANGLING if entry.is_symlink() else NO_IMAGE, path)
    return FoundImages(sorted(images), sorted(folders), passed_over)


def is_hidden(name: str) -> bool:
    """Return whether a file or folder of this name belongs to a system and not to its owner."""
    return (name.startswith(".") and name not in (".", "..")) or name.casefold() in _SYSTEM


def is_image(path: Path) -> bool:
    """Return whether the content of a file is that of an image, read or not."""
    return format_of(_begin(path)) is not None


def sort_in(path: str, begin: Callable[[], bytes], images: list[FoundImage], passed_over: PassedOver) -> None:
    """Add a file to the images, or to what is passed over.

    Args:
        path: below the folder.
        begin: returns its first bytes, which are asked for where the name does not tell.
        images: those found so far.
        passed_over: everything else.
    """
    _, dot, extension = path.rpartition("/")[2].rpartition(".")
    if dot and extension.lower() in IMAGE_EXTENSIONS:
        images.append(FoundImage(path))
        return
    form = format_of(begin()[:_BEGIN])
    # Raw files of cameras begin like a TIFF, which would be their thumbnail.
    if form in READ and not (dot and form == "TIFF"):
        images.append(FoundImage(path))
    elif form in NOT_READ:
        images.append(FoundImage(path, NOT_READ[form]))
    else:
        passed_over.add(NO_IMAGE, path)


def _begin(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_BEGIN)
    except OSError:
        return b""
