"""Arrays in numpy's own format, as data of others."""

from __future__ import annotations

import tokenize
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmood.errors import MmoodError

# What damaged bytes raise in numpy's readers, of which one is a parser of Python's literals.
BROKEN_ARRAY = (
    *(OSError, ValueError, EOFError, SyntaxError, KeyError, TypeError, OverflowError, RuntimeError),
    *(NotImplementedError, tokenize.TokenError, RecursionError, MemoryError),
)


def read_array(path: Path, what: str) -> NDArray[Any]:
    """Return the array of a `.npy` file, which stays on disk: its header cannot claim more memory than the file has.

    Args:
        path: of the file.
        what: begins the sentence of an error.

    Raises:
        MmoodError: it is no array, or one of Python objects, which would have to be unpickled.
    """
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except BROKEN_ARRAY as error:
        reason = " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
        raise MmoodError(f"{what} cannot be read: {reason}.") from error
    if not isinstance(found, np.ndarray):
        raise MmoodError(f"{what} cannot be read: it holds several arrays.")
    return found
