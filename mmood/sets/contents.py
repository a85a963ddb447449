"""The contents of a set's files: their hashes, kept in the cache with what tells that a file has changed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from mmood.errors import MmoodError
from mmood.files import read_limited, write_atomically
from mmood.sets.storage import Storage, unreadable
from mmood.shards.index import MAX_SAMPLES

MAX_BYTES = 2**33
"""Bytes of a file of contents, at most."""

_THREADS = 8  # they wait for disks and networks, and hashing leaves the interpreter to others
_BLOCK = 256  # files that a thread reads in one go
_COLUMNS = {"paths": "uint8", "ends": "int64", "size": "int64", "stamp": "int64", "sha256": "uint8"}

Digests = NDArray[np.uint8]


@final
class Paths(Sequence[str]):
    """Paths of files in two arrays: a million Python strings would be ten times as large, in every worker.

    Args:
        joined: all paths, encoded as the file system does.
        ends: where each ends.
    """

    def __init__(self, joined: bytes, ends: NDArray[np.int64]) -> None:
        self.joined = joined
        self.ends = ends

    @classmethod
    def of(cls, paths: Sequence[str]) -> Paths:
        """Return these paths."""
        encoded = [os.fsencode(path) for path in paths]
        return cls(b"".join(encoded), np.cumsum([len(path) for path in encoded], dtype=np.int64))

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, position: int) -> str:  # type: ignore[override]  # no slices
        begin = int(self.ends[position - 1]) if position else 0
        return os.fsdecode(self.joined[begin : int(self.ends[position])])


@final
@dataclass(frozen=True, eq=False)
class Contents:
    """Files as they were when they were hashed, row i for path i.

    Attributes:
        paths: of the files, each once or as often as a list names it.
        size: (N,) bytes.
        stamp: (N,) see `States`.
        sha256: (N, 32) of the contents.
    """

    paths: Paths
    size: NDArray[np.int64]
    stamp: NDArray[np.int64]
    sha256: Digests

    def same_files(self, other: Contents) -> bool:
        """Return whether paths, sizes and stamps are those of other contents, in the same order."""
        return (
            self.paths.joined == other.paths.joined
            and np.array_equal(self.paths.ends, other.paths.ends)
            and np.array_equal(self.size, other.size)
            and np.array_equal(self.stamp, other.stamp)
        )


@dataclass(frozen=True)
class Change:
    """What has changed in a folder since it was indexed: counts of files."""

    added: int
    removed: int
    changed: int

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)

    def __str__(self) -> str:
        """Return the counts in words, such as "2 files were added and 1 was changed"."""
        parts = [(self.added, "added"), (self.removed, "removed"), (self.changed, "changed")]
        first, *others = [(count, what) for count, what in parts if count]
        said = [f"{first[0]} {'file was' if first[0] == 1 else 'files were'} {first[1]}"]
        said += [f"{count} {'was' if count == 1 else 'were'} {what}" for count, what in others]
        return " and ".join(said) if len(said) < 3 else f"{said[0]}, {said[1]} and {said[2]}"


def known_rows(listed: Contents, kept: Contents) -> tuple[NDArray[np.int64], Change]:
    """Return the row of each listed file in contents that were kept, -1 if it is new or has changed; and the change."""
    rows = {path: row for row, path in enumerate(kept.paths)}
    found = np.array([rows.get(path, -1) for path in listed.paths], dtype=np.int64)
    same = found >= 0
    same[same] = (kept.size[found[same]] == listed.size[same]) & (kept.stamp[found[same]] == listed.stamp[same])
    added = int((found < 0).sum())
    removed = len(rows) - len(np.unique(found[found >= 0]))
    change = Change(added, removed, int((~same).sum()) - added)
    return np.where(same, found, -1), change


def hashed(storage: Storage, paths: Sequence[str], advance: Callable[[int], object]) -> Digests:
    """Return the (N, 32) sha256 of files.

    Args:
        storage: where they are.
        paths: which.
        advance: called with the number of files that are done.

    Raises:
        MmoodError: one cannot be read; names it.
    """
    pool = ThreadPoolExecutor(_THREADS)
    digests = []
    with storage.opened() as read:

        def block(start: int) -> bytes:
            return b"".join(_digest(storage, read, path) for path in _slice(paths, start))

        starts = range(0, len(paths), _BLOCK)
        try:
            for start, found in zip(starts, pool.map(block, starts), strict=True):
                digests.append(found)
                advance(min(_BLOCK, len(paths) - start))
        finally:
            pool.shutdown(cancel_futures=True)  # whoever ends the run does not wait for the rest
    return np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(-1, 32)


def read_contents(path: Path) -> Contents:
    """Return the contents that a file keeps.

    Raises:
        MmoodError: it cannot be read, or is not such a file.
    """
    what = f"The index {path}"
    try:
        columns = load(read_limited(path, what, MAX_BYTES))
    except (SafetensorError, ValueError, TypeError, KeyError, OverflowError) as error:
        raise MmoodError(f"{what} is damaged: {error}.") from error
    if {name: str(column.dtype) for name, column in columns.items()} != _COLUMNS:
        raise MmoodError(f"{what} is damaged: it does not have the columns {', '.join(_COLUMNS)}.")
    ends, joined, size, stamp, sha256 = (columns[name] for name in ("ends", "paths", "size", "stamp", "sha256"))
    count = len(ends) if ends.ndim == 1 else -1
    shapes = (size.shape, stamp.shape, sha256.shape, joined.ndim) == ((count,), (count,), (count, 32), 1)
    if not shapes or count > MAX_SAMPLES:
        raise MmoodError(f"{what} is damaged: its columns have different lengths.")
    lengths = np.diff(ends, prepend=0)
    if (lengths <= 0).any() or (ends[-1] if count else 0) != len(joined):
        raise MmoodError(f"{what} is damaged: its paths do not fit together.")
    return Contents(Paths(joined.tobytes(), ends), size, stamp, sha256)


def write_contents(path: Path, contents: Contents) -> None:
    """Keep contents in a file, whole or not at all."""
    columns = {
        "paths": np.frombuffer(contents.paths.joined, dtype=np.uint8),
        "ends": contents.paths.ends,
        "size": contents.size,
        "stamp": contents.stamp,
        "sha256": np.ascontiguousarray(contents.sha256),
    }
    write_atomically(path, save(columns))


def _slice(paths: Sequence[str], start: int) -> list[str]:
    return [paths[position] for position in range(start, min(start + _BLOCK, len(paths)))]


def _digest(storage: Storage, read: Callable[[str], bytes], path: str) -> bytes:
    try:
        return hashlib.sha256(read(path)).digest()
    except (OSError, ValueError) as error:
        raise unreadable(storage.place, path, error) from error
