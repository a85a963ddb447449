"""Blocks of a job on disk: the rows of a fixed run of images, and their embeddings beside them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float16

from mmood.detector.decisions import FIELDS, Decision
from mmood.detector.detection.tables import read_rows
from mmood.errors import MmoodError
from mmood.files import whole_file, write_atomically
from mmood.files.arrays import read_array

Row = tuple[str, Decision]
Embeddings = Float16[np.ndarray, "images dim"]

_KINDS: dict[str, tuple[type, ...]] = {
    "input": (str,),
    "status": (str,),
    "accepted": (bool, type(None)),
    **dict.fromkeys(("score", "p_value", "probability"), (float, type(None))),
    **dict.fromkeys(("class", "negative_label", "reason"), (str, type(None))),
}


def write_block(path: Path, rows: Sequence[Row], embeddings: Embeddings | None) -> None:
    """Write a block, which is there once its rows are.

    Args:
        path: of the rows.
        rows: what each image is called, and the decision on it.
        embeddings: of the images that are not broken; None for a job without any.
    """
    if embeddings is not None:
        with whole_file(_embeddings(path)) as file:
            np.save(file, embeddings, allow_pickle=False)
    lines = (json.dumps({"input": name, **decision.as_dict()}, ensure_ascii=False) for name, decision in rows)
    write_atomically(path, "".join(f"{line}\n" for line in lines).encode())


def read_block(path: Path, images: int) -> Iterator[dict[str, Any]]:
    """Yield the rows of a block.

    Args:
        path: of the rows.
        images: how many rows there must be.

    Raises:
        MmoodError: it is not what was written.
    """
    count = 0
    try:
        for row in read_rows(path):
            if row.keys() != {"input", *FIELDS} or not all(type(row[name]) in _KINDS[name] for name in row):
                raise _damaged(path, f"line {count + 1} is not a row that this version of mmood writes")
            yield row
            count += 1
    except (MmoodError, OSError) as error:
        raise _damaged(path, str(error)) from error
    if count != images:
        raise _damaged(path, f"it has {count} rows for {images} images")


def read_block_embeddings(path: Path, rows: int, width: int) -> Embeddings:
    """Return the embeddings of a block.

    Args:
        path: of the rows of the block.
        rows: how many of its images are not broken.
        width: of an embedding.

    Raises:
        MmoodError: they are not what was written.
    """
    place = _embeddings(path)
    try:
        found = read_array(place, place.name)
    except MmoodError as error:
        raise _damaged(path, str(error)) from error
    if found.dtype != np.float16 or found.shape != (rows, width):
        raise _damaged(path, f"{place.name} does not hold {rows} embeddings of {width} numbers")
    return found


def _damaged(path: Path, reason: str) -> MmoodError:
    return MmoodError(f"{path} is damaged ({reason.rstrip('.')}); delete it, and the same command makes it again.")


def _embeddings(path: Path) -> Path:
    return path.with_suffix(".npy")
