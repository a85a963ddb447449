"""Embeddings of calibration images, kept to tell later whether the world has changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32
from safetensors import SafetensorError
from safetensors.numpy import load, save

from mmood.errors import MmoodError
from mmood.files import read_limited, write_atomically

EMBEDDINGS_FILE = "calibration.safetensors"
KEPT = 1000
_LIMIT = 2**28


@dataclass(frozen=True)
class CalibrationEmbeddings:
    """Unit-norm embeddings of calibration images.

    Attributes:
        mean: (D,) over all of them, not normalised.
        sample: (m, D) of at most 1,000 of them, evenly spaced over the order in which they came.
    """

    mean: Float32[np.ndarray, " dim"]
    sample: Float32[np.ndarray, "images dim"]


def summarised(chunks: Sequence[Float32[np.ndarray, "images dim"]]) -> CalibrationEmbeddings:
    """Return mean and sample of embeddings that came in chunks."""
    rows = np.concatenate(chunks)
    kept = np.unique(np.linspace(0, len(rows) - 1, min(KEPT, len(rows))).round().astype(np.int64))
    # Half precision, as in the file: a detector is the same before it is saved and after it is loaded.
    return CalibrationEmbeddings(
        rows.mean(axis=0, dtype=np.float64).astype(np.float32), rows[kept].astype(np.float16).astype(np.float32)
    )


def write_embeddings(folder: Path, embeddings: CalibrationEmbeddings) -> None:
    """Write mean and sample into a detector folder."""
    tensors = {"mean": embeddings.mean, "sample": embeddings.sample.astype(np.float16)}
    write_atomically(folder / EMBEDDINGS_FILE, save(tensors))


def read_embeddings(folder: Path) -> CalibrationEmbeddings:
    """Return mean and sample; MmoodError if the file is not that of a detector."""
    path = folder / EMBEDDINGS_FILE
    try:
        found = load(read_limited(path, str(path), _LIMIT))
        mean, sample = found["mean"].astype(np.float32), found["sample"].astype(np.float32)
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise MmoodError(f"{path} does not hold the embeddings of a calibration: {error}.") from error
    if mean.ndim != 1 or sample.ndim != 2 or sample.shape[1:] != mean.shape or not len(sample):
        raise MmoodError(f"{path} has a mean of the shape {mean.shape} and a sample of the shape {sample.shape}.")
    return CalibrationEmbeddings(mean, sample)
