"""Tar streams from anywhere: the names and contents of regular members, in order, and nothing else.

Links, devices and folders are passed over, nothing is written to disk, and a header can neither claim more memory than
stated here nor send the reader back or round in a circle.
"""

from __future__ import annotations

import bz2
import gzip
import tarfile
from collections.abc import Iterator
from typing import IO, Any, Protocol, cast, final

MAX_CONTENT_BYTES = 2**28
"""The largest member that is read; no image of a benchmark comes near."""
MAX_HEADER_BYTES = 2**16
"""The largest long name or pax header."""

_BLOCK = 512
_DAMAGED = "a header is damaged"
_REGULAR = (b"0", b"\0", b"7")


class Readable(Protocol):
    """What is read front to back."""

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes, none at the end."""


@final
class TarStream:
    """The regular members of a tar stream, plain or compressed by gzip or bzip2.

    Iterating gives the name of each member; its content can be read until the next name is asked for.

    Args:
        stream: read front to back, once.

    Raises:
        tarfile.ReadError: the stream is no tar, is cut off, or a header is damaged or over the limits above.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = _plain(stream)
        self._size = self._left = 0

    def __iter__(self) -> Iterator[str]:
        longer: dict[str, str] = {}
        first = True
        while (header := self._header(first)) is not None:
            first = False
            kind, self._size = header[156:157], _number(header[124:136])
            if kind == b"L":
                longer["path"] = _text(self._small())
            elif kind == b"x":
                longer |= _pax(self._small())
            else:
                self._size = _size(longer.get("size"), self._size)
                self._left = self._size
                name = longer.get("path") or _name(header)
                sparse = any(key.startswith("GNU.sparse") for key in longer)
                # Before POSIX a folder was a regular member whose name ends in a slash.
                if kind in _REGULAR and not sparse and not name.endswith("/"):
                    yield name
                longer = {}
            self._pass(self._left + -self._size % _BLOCK)

    @property
    def size(self) -> int:
        """Bytes of the member whose name came last."""
        return self._size

    def content(self) -> bytes:
        """Return the content of the member whose name came last."""
        if self._size > MAX_CONTENT_BYTES:
            raise tarfile.ReadError(f"a member of {self._size} bytes is over the limit of {MAX_CONTENT_BYTES}")
        content = self._exactly(self._left)
        self._left = 0
        return content

    def _header(self, first: bool) -> bytes | None:
        """Return the next header; None at the end of the archive."""
        header = _read(self._stream, _BLOCK)
        if not header and first:
            raise tarfile.ReadError("it is empty")
        if not header.strip(b"\0"):
            return None
        if len(header) < _BLOCK:
            raise tarfile.ReadError("it is not a tar file" if first else "it is truncated")
        if _number(header[148:156], "it is not a tar file" if first else _DAMAGED) not in _sums(header):
            raise tarfile.ReadError("it is not a tar file" if first else _DAMAGED)
        return header

    def _small(self) -> bytes:
        if self._size > MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {self._size} bytes is over the limit of {MAX_HEADER_BYTES}")
        self._left = 0
        return self._exactly(self._size)

    def _exactly(self, size: int) -> bytes:
        content = _read(self._stream, size)
        if len(content) < size:
            raise tarfile.ReadError("it is truncated")
        return content

    def _pass(self, size: int) -> None:
        while size:
            size -= len(self._exactly(min(size, 2**16)))


@final
class _Rest:
    """A stream whose first bytes were looked at."""

    def __init__(self, begin: bytes, stream: Readable) -> None:
        self._begin, self._stream = begin, stream

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes, none at the end."""
        if not self._begin:
            return self._stream.read(size)
        found, self._begin = self._begin[:size], self._begin[size:]
        return found


def _plain(stream: IO[bytes]) -> Readable:
    begin = _read(stream, 6)
    rest = _Rest(begin, stream)
    if begin.startswith(b"\x1f\x8b"):
        return cast(Readable, gzip.GzipFile(fileobj=cast(Any, rest)))  # it only reads
    if begin.startswith(b"BZh"):
        return cast(Readable, bz2.BZ2File(cast(Any, rest)))
    if begin == b"\xfd7zXZ\0":
        raise tarfile.ReadError("it is compressed with xz, which may need any amount of memory; decompress it first")
    return rest


def _read(stream: Readable, size: int) -> bytes:
    """Return `size` bytes, or fewer at the end: one `read` of a network stream may bring less."""
    found = stream.read(size)
    if len(found) in (0, size):
        return found
    pieces, left = [found], size - len(found)
    while left and (piece := stream.read(left)):
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


def _number(field: bytes, otherwise: str = _DAMAGED) -> int:
    """Return a number of a header: octal digits, or from the GNU extension 0x80 and big-endian bytes."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    digits = field.partition(b"\0")[0].strip()
    if digits.strip(b"01234567"):
        raise tarfile.ReadError(otherwise)
    return int(digits or b"0", 8)


def _sums(header: bytes) -> tuple[int, int]:
    """Return the checksums that a header may carry: of its bytes without a sign, and with one as old programs did."""
    counted = header[:148] + b" " * 8 + header[156:]
    plain = sum(counted)
    return plain, plain - 256 * sum(byte >= 128 for byte in counted) if not counted.isascii() else plain


def _name(header: bytes) -> str:
    name, prefix = _text(header[:100]), _text(header[345:500])
    return f"{prefix}/{name}" if prefix and header[257:263] == b"ustar\0" else name


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", errors="replace")


def _pax(content: bytes) -> dict[str, str]:
    """Return the records of a pax header, each `LENGTH KEY=VALUE` and a line feed."""
    found, position = {}, 0
    while position < len(content) and content[position] != 0:
        length = content[position : position + 8].partition(b" ")[0]
        end = position + int(length) if length.isdigit() else position
        record = content[position + len(length) + 1 : end - 1]
        key, joined, value = record.partition(b"=")
        if end <= position + len(length) or end > len(content) or not joined:
            raise tarfile.ReadError("a pax header is damaged")
        found[_text(key)] = _text(value)
        position = end
    return found


def _size(longer: str | None, plain: int) -> int:
    if longer is None:
        return plain
    if not (longer.isascii() and longer.isdecimal() and len(longer) < 20):
        raise tarfile.ReadError("a pax header is damaged")
    return int(longer)
