"""Hashes: of numbers, for draws that no library changes; of encoded images, to find those that two sets share."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmood.errors import MmoodError
from mmood.files import read_limited, write_atomically
from mmood.files.arrays import BROKEN_ARRAY
from mmood.runs.locks import wait_for_lock
from mmood.shards.index import Hashes, Keys, SetIndex
from mmood.shards.reading import Skipped

_MAX_BYTES = 2**32

NO_IMAGE = np.uint64(0)
"""In the place of the hash where a sample holds no image, or was left out under `on_error: skip`."""


def digest(*numbers: int) -> int:
    """Return 64 bits of the numbers' sha256: a hash that no release of a library changes."""
    return int.from_bytes(hashlib.sha256(",".join(map(str, numbers)).encode()).digest()[:8], "big")


def image_hash(content: bytes) -> int:
    """Return the first 64 bits of the sha256 of an image's encoded bytes."""
    return int.from_bytes(hashlib.sha256(content).digest()[:8], "big")


def dump_hashes(hashes: Sequence[int] | Hashes) -> bytes:
    """Return the content of a file of hashes."""
    buffer = io.BytesIO()
    np.save(buffer, np.asarray(hashes, dtype=np.uint64), allow_pickle=False)
    return buffer.getvalue()


def parse_hashes(content: bytes, count: int, what: str) -> Hashes:
    """Return the hashes in the content of a file; MmoodError, which begins with `what`, if they are not `count`."""
    try:
        found = np.load(io.BytesIO(content), allow_pickle=False)
    except BROKEN_ARRAY as error:
        raise MmoodError(f"{what} cannot be read ({error!s:.200}); delete the file.") from error
    if found.dtype != np.uint64 or found.shape != (count,):
        raise MmoodError(f"{what} are not those of {count} images; delete the file.")
    return np.asarray(found, dtype=np.uint64)


def image_hashes(
    index: SetIndex, keys: Keys, folder: Path, skip: bool, advance: Callable[[int], object] = lambda amount: None
) -> Hashes:
    """Return the first 64 bits of the sha256 of each image's encoded bytes, in the order of the keys.

    Equal files have equal hashes; the same picture encoded again has another. Two different files among a million and a
    hundred thousand are taken for equal with a probability of 1 in 100 million. The hashes are kept in `folder`.

    Args:
        index: the set.
        keys: which samples, ascending.
        folder: where hashes are kept; the file's name holds the hash of the index and of the keys.
        skip: leave out what cannot be read.
        advance: called with the number of images that are done.

    Raises:
        MmoodError: a shard cannot be read, or the folder cannot be written.
    """
    kept = kept_hashes(index, keys, folder)
    if kept is not None:
        return kept
    path = _path(index, keys, folder)
    with wait_for_lock(path.with_name(f".{path.name}.lock"), f"is hashing the images of {index.name}"):
        kept = kept_hashes(index, keys, folder)
        if kept is None:
            kept = _hashed(index, keys, skip, advance)
            write_atomically(path, dump_hashes(kept))
    return kept


def _hashed(index: SetIndex, keys: Keys, skip: bool, advance: Callable[[int], object]) -> Hashes:
    found = np.full(len(keys), NO_IMAGE, dtype=np.uint64)
    for position, sample in enumerate(index.read(keys, skip)):
        if not isinstance(sample, Skipped) and sample.image is not None:
            found[position] = image_hash(sample.image)
        advance(1)
    return found


def kept_hashes(index: SetIndex, keys: Keys, folder: Path) -> Hashes | None:
    """Return the hashes that the index or the folder holds, None without any; MmoodError if they are damaged."""
    known = index.known_hashes(keys)
    if known is not None:
        return known
    path = _path(index, keys, folder)
    if not path.is_file():
        return None
    what = f"The image hashes {path}"
    return parse_hashes(read_limited(path, what, _MAX_BYTES), len(keys), what)


def are_copies(images: Hashes, others: Hashes) -> NDArray[np.bool_]:
    """Return which of the images have the same bytes as one of the others."""
    copies: NDArray[np.bool_] = np.isin(images, others) & (images != NO_IMAGE)
    return copies


def _path(index: SetIndex, keys: Keys, folder: Path) -> Path:
    of_keys = hashlib.sha256(f"{index.hash},".encode() + keys.astype("<i8").tobytes()).hexdigest()
    return folder / f"{index.name}.{of_keys[:16]}.images.npy"
