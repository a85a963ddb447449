"""Windows of decisions: files of `mmood detect`, or runs of their rows, with the embeddings that lie beside them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64

from mmood.detector.calibration import Calibration
from mmood.detector.detection import Table, read_rows
from mmood.errors import MmoodError
from mmood.files.arrays import read_array

_LARGEST = 1e300
"""No number of a decision is larger; whole numbers in JSON have no bound."""


@dataclass(frozen=True)
class Window:
    """Consecutive decisions.

    Attributes:
        name: for a reader.
        broken: images that have no decision.
        scores: of the others, in their order.
        embeddings: of the others, unit norm; None where none were kept.
    """

    name: str
    broken: int
    scores: Float32[np.ndarray, " images"]
    embeddings: Float[np.ndarray, "images dim"] | None


def read_windows(path: Path, rows: int | None, calibration: Calibration, width: int) -> Iterator[Window]:
    """Yield the windows of a file of decisions.

    Args:
        path: of the file.
        rows: of a window, the last of which may have fewer; None for one window of all.
        calibration: of the detector, to which the decisions must belong.
        width: of its embeddings.

    Raises:
        MmoodError: the file holds no decisions, or those of another detector, or its embeddings are not those of its
            rows.
    """
    readable, scores = _decisions(path, calibration)
    embeddings = _embeddings(Table(path).embeddings, int(readable.sum()), width)
    before = np.concatenate([[0], np.cumsum(readable)])
    step = rows or len(readable)
    for start in range(0, len(readable), step):
        stop = min(start + step, len(readable))
        first, last = int(before[start]), int(before[stop])
        yield Window(
            name=str(path) if step >= len(readable) else f"{path}, rows {start + 1} to {stop}",
            broken=stop - start - (last - first),
            scores=scores[first:last],
            embeddings=None if embeddings is None else embeddings[first:last],
        )


def _decisions(
    path: Path, calibration: Calibration
) -> tuple[Bool[np.ndarray, " rows"], Float32[np.ndarray, " images"]]:
    """Return which rows have a decision, and the scores of those."""
    readable: list[bool] = []
    numbers: list[tuple[float, float]] = []
    for row in read_rows(path):
        readable.append(row["status"] == "ok")
        if readable[-1]:
            numbers.append((_number(path, len(readable), row, "score"), _number(path, len(readable), row, "p_value")))
    if not readable:
        raise MmoodError(f"{path} contains no decisions.")
    found = np.array(numbers, dtype=np.float64).reshape(-1, 2)
    scores = found[:, 0].astype(np.float32)
    _check_detector(path, np.flatnonzero(readable) + 1, scores, found[:, 1], calibration)
    return np.array(readable), scores


def _number(path: Path, number: int, row: Mapping[str, object], name: str) -> float:
    value = row[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < _LARGEST:
        raise MmoodError(f"{path}, row {number}, has {name} = {value!r:.40}; of an image that is ok it is a number.")
    return float(value)


def _check_detector(
    path: Path,
    numbers: np.ndarray,
    scores: Float32[np.ndarray, " images"],
    p_values: Float64[np.ndarray, " images"],
    calibration: Calibration,
) -> None:
    """Raise MmoodError unless every p-value is that of its score by this calibration: its fingerprint in each row."""
    expected = calibration.p_values(scores)
    differ = np.flatnonzero(np.abs(expected - p_values) > 1e-9)
    if len(differ):
        row = differ[0]
        raise MmoodError(
            f"{path} contains decisions of another detector, or of another calibration: row {numbers[row]} gives the "
            f"score {scores[row]:g} the p-value {p_values[row]:.4g}, and this detector gives it {expected[row]:.4g}."
        )


def _embeddings(path: Path, images: int, width: int) -> Float[np.ndarray, "images dim"] | None:
    """Return the embeddings in a file, which stays on the disk; None if it is not there."""
    if not path.is_file():
        return None
    found = read_array(path, str(path))
    if found.dtype.kind != "f" or found.shape != (images, width):
        raise MmoodError(
            f"{path} does not hold the embeddings of the {images} images beside it, {width} numbers each; "
            "`mmood detect --embeddings` writes both files together."
        )
    return found
