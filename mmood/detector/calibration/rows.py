"""Encoded calibration images, kept where their scores have to be computed again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32
from safetensors import SafetensorError
from safetensors.numpy import load, save

from mmood.errors import MmoodError
from mmood.files import read_limited, write_atomically

ROWS_FILE = "calibration-rows.safetensors"
_LIMIT = 2**32


@dataclass(frozen=True)
class CalibrationRows:
    """What the tower makes of the calibration images.

    Attributes:
        features: (n, F) before the projection.
        embedding: (n, D) of unit norm, or None for an image-only encoder.
    """

    features: Float32[np.ndarray, "images features"]
    embedding: Float32[np.ndarray, "images dim"] | None


def write_rows(folder: Path, rows: CalibrationRows) -> None:
    """Write the rows into a detector folder."""
    tensors = {"features": rows.features}
    if rows.embedding is not None:
        tensors["embedding"] = rows.embedding
    write_atomically(folder / ROWS_FILE, save(tensors))


def read_rows(folder: Path, count: int) -> CalibrationRows:
    """Return the rows of a detector folder.

    Args:
        folder: of the detector.
        count: how many there must be.

    Raises:
        MmoodError: the file is not that of a detector, or has another number of rows.
    """
    path = folder / ROWS_FILE
    try:
        found = load(read_limited(path, str(path), _LIMIT))
        features, embedding = found["features"], found.get("embedding")
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise MmoodError(f"{path} does not hold encoded calibration images: {error}.") from error
    arrays = [features] if embedding is None else [features, embedding]
    if any(rows.ndim != 2 or len(rows) != count or rows.dtype != np.float32 for rows in arrays):
        shapes = ", ".join(f"{rows.dtype} {rows.shape}" for rows in arrays)
        raise MmoodError(f"{path} holds {shapes}; it should hold {count} rows of float32.")
    return CalibrationRows(features, embedding)
