"""One file from one address: begun, or gone on with where an earlier run was cut off.

Beside an unfinished file `NAME.part`, `NAME.part.json` says which address and which ETag its bytes came with. So a part
is only continued if the server still has the same file, or if the recipe pins a hash, which then decides.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from mmood.errors import MmoodError
from mmood.files import Fields, parse_json, write_atomically
from mmood.output.console import Bar
from mmood.recipes.recipe import SourceFile
from mmood.shards.http import ChangedError, HttpStream
from mmood.shards.locations import web_address

RESERVE = 2**28
"""Bytes of the disk that are never filled."""
_PIECE = 2**20
_LOOKS = 2**26  # bytes between two looks at the free space, where the server does not say how many will come


class NoRoomError(MmoodError):
    """The disk does not take what is to be written; no other address would help."""


@dataclass(frozen=True)
class Begun:
    """Where the bytes of an unfinished file came from.

    Attributes:
        url: the address.
        tag: the ETag that came with them, "" without one.
        length: bytes of the whole file, None if the server did not say.
    """

    url: str
    tag: str
    length: int | None


def part_of(target: Path) -> Path:
    """Return where the bytes of an unfinished file are."""
    return target.with_name(f"{target.name}.part")


def transfer(file: SourceFile, url: str, target: Path, bar: Bar) -> None:
    """Bring a file to `target`; its hash is not checked here.

    Args:
        file: what is known of it.
        url: one of its addresses.
        target: where it goes, once it is whole.
        bar: shows the bytes that are there, as they come.

    Raises:
        OSError: the server does not give it, or the disk does not take it.
        MmoodError: there is no room for it, or it is larger than it should be.
    """
    part, begun = part_of(target), _begun(target, url)
    kept = part.stat().st_size if part.exists() else 0
    whole = file.bytes if begun is None or file.bytes is not None else begun.length
    if not (file.pinned or (begun is not None and begun.tag)) or (whole is not None and kept > whole):
        kept = _start_over(part)
    if kept and kept == whole:
        bar.advance(kept)
        _complete(part, target)
        return
    try:
        _receive(file, url, part, kept, "" if begun is None else begun.tag, bar)
    except ChangedError:
        bar.restart()
        _receive(file, url, part, _start_over(part), "", bar)
    _complete(part, target)


def _receive(file: SourceFile, url: str, part: Path, kept: int, tag: str, bar: Bar) -> None:
    address = web_address(url)
    with HttpStream(address, kept, tag) as stream:
        write_atomically(
            part.with_name(f"{part.name}.json"), json.dumps(asdict(Begun(url, stream.tag, stream.length))).encode()
        )
        if file.bytes is not None and stream.length not in (None, file.bytes):
            raise MmoodError(f"it has {stream.length:,} bytes there, and should have {file.bytes:,}")
        length = stream.length if stream.length is not None else file.bytes
        check_room(part.parent, 0 if length is None else length - kept, file.name)
        if length is not None:
            bar.expect(length)
        bar.advance(kept)
        since_look = 0
        with _appending(part) as out:
            while piece := stream.read(_PIECE):
                out.write(piece)
                bar.advance(len(piece))
                if file.bytes is not None and out.tell() > file.bytes:
                    raise MmoodError(f"it sends more than the {file.bytes:,} bytes that it should have")
                if length is None and (since_look := since_look + len(piece)) > _LOOKS:
                    check_room(part.parent, 0, file.name)
                    since_look = 0
            out.flush()
            os.fsync(out.fileno())


def _appending(part: Path) -> BinaryIO:
    return part.open("ab")


def check_room(folder: Path, wanted: int, what: str) -> None:
    """Raise NoRoomError if a disk has no room for so many bytes and the reserve."""
    free = free_bytes(folder)
    if free < wanted + RESERVE:
        raise NoRoomError(
            f"The disk of {folder} has {in_words(free)} free, but {what} needs {in_words(wanted)} more, and "
            f"{in_words(RESERVE)} stay free; make room, or choose another `--root`."
        )


def free_bytes(folder: Path) -> int:
    """Return the free bytes of the disk that a folder, or the nearest one above it that exists, is on."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def in_words(count: int) -> str:
    """Return a number of bytes in words.

    >>> in_words(625_703_847), in_words(900), in_words(6_300_000_000)
    ('626 MB', '900 bytes', '6.3 GB')
    """
    for unit, name in ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if count >= unit:
            return f"{count / unit:.1f} {name}" if count < 10 * unit else f"{count / unit:,.0f} {name}"
    return f"{count} bytes"


def forget(target: Path) -> None:
    """Delete a file, what is there of it, and its folder if nothing else is in it."""
    for path in (target, part_of(target), part_of(target).with_name(f"{part_of(target).name}.json")):
        path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # something else is in it, or it is not there
        target.parent.rmdir()


def _begun(target: Path, url: str) -> Begun | None:
    """Return where the bytes of an unfinished file came from; None unless it was this address."""
    note = part_of(target).with_name(f"{part_of(target).name}.json")
    if not note.is_file():
        return None
    try:
        fields = Fields(parse_json(note.read_bytes(), str(note)), str(note))
        begun = Begun(fields.text("url"), fields.text("tag"), fields.whole_or_null("length"))
    except MmoodError:  # damaged: as if there were none
        return None
    return begun if begun.url == url else None


def _start_over(part: Path) -> int:
    part.unlink(missing_ok=True)
    return 0


def _complete(part: Path, target: Path) -> None:
    part.replace(target)
    part.with_name(f"{part.name}.json").unlink(missing_ok=True)
