"""The scores of single images as npz files: written with the id of their run, read as data of others."""

from __future__ import annotations

import hashlib
import io
import math
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmood.errors import MmoodError
from mmood.files.arrays import BROKEN_ARRAY

_BROKEN = (*BROKEN_ARRAY, zipfile.BadZipFile)


def arrays_bytes(arrays: Mapping[str, NDArray[np.generic]], run: str) -> bytes:
    """Return the content of an npz file; the id of the run is the comment of the archive, which numpy passes over."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.comment = run.encode()
    return buffer.getvalue()


def run_of_arrays(path: Path, what: str) -> str | None:
    """Return the id of the run that wrote an npz file, None if there is none in it; MmoodError if it cannot be read."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.comment.decode("ascii", errors="replace") or None
    except _BROKEN as error:
        raise _unreadable(what, error) from error


def files_of_scores(folder: Path, run: str) -> dict[str, str]:
    """Return path below the run folder -> sha256 (hex) of each file of scores that a run wrote into its folder."""
    files = sorted((folder / "scores").rglob("*.npz"))
    own = [path for path in files if run_of_arrays(path, f"The file of scores {path}") == run]
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in own}


def read_arrays(path: Path, what: str, dimensions: int = 1) -> dict[str, NDArray[np.int64 | np.float32]]:
    """Return the arrays of an npz file by name; `what` begins the sentence of an error.

    Each array has one dimension, or up to `dimensions`.

    Members must be stored as they are, as `numpy.savez` does it: then nothing in the file can claim more memory than
    the file has bytes. Numbers are whole (up to 64 bits) or floating (32 or 64 bits); nothing is unpickled.

    Raises:
        MmoodError: the file cannot be read, or an array is not of that kind.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if packed := [member.filename for member in members if member.compress_type != zipfile.ZIP_STORED]:
                raise MmoodError(f"{what} cannot be read: '{packed[0]}' is compressed; save it by numpy.savez.")
            size = path.stat().st_size
            if sum(member.file_size for member in members) > size:
                raise MmoodError(f"{what} cannot be read: its arrays claim to be larger than its {size} bytes.")
            return {
                member.filename.removesuffix(".npy"): _array(archive.read(member), dimensions) for member in members
            }
    except _BROKEN as error:
        raise _unreadable(what, error) from error


def _unreadable(what: str, error: BaseException) -> MmoodError:
    reason = " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
    return MmoodError(f"{what} cannot be read: {reason}.")


def _array(content: bytes, dimensions: int) -> NDArray[np.int64 | np.float32]:
    stream = io.BytesIO(content)
    if np.lib.format.read_magic(stream) != (1, 0):
        raise ValueError("an array has an unsupported version of the format")
    shape, _, kind = np.lib.format.read_array_header_1_0(stream)
    if not 1 <= len(shape) <= dimensions or kind.newbyteorder("=") not in (np.int32, np.int64, np.float32, np.float64):
        raise ValueError(f"an array has the shape {shape} and the type {kind}; it must be plain numbers in one row")
    body, count = content[stream.tell() :], math.prod(shape)
    if len(body) != count * kind.itemsize:
        raise ValueError(f"an array of {count} numbers has {len(body)} bytes")
    return np.frombuffer(body, kind).reshape(shape)
