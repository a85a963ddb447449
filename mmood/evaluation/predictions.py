"""The scores of single images as files."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mmood.evaluation.store import SetScores
from mmood.files import write_atomically


def write_scores(folder: Path, scores: SetScores) -> Path:
    """Write `scores/<set>.npz`: key, label, predicted (int64) and one float32 array per score; returns the path."""
    arrays = {name: scores.of(name) for name in scores.names}
    buffer = io.BytesIO()
    np.savez(buffer, key=scores.key, label=scores.label, predicted=scores.predicted, **arrays)  # type: ignore[arg-type]
    path = folder / "scores" / f"{scores.set}.npz"
    write_atomically(path, buffer.getvalue())
    return path


def write_predictions(folder: Path, scores: SetScores, names: Sequence[str], class_names: Sequence[str]) -> Path:
    """Write `predictions.csv`: a row per image with its name, nearest class and scores; returns the path.

    Args:
        folder: the run folder.
        scores: of the images that were predicted.
        names: name of the image with each key.
        class_names: the ID classes.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", "class", *scores.names])
    for key, predicted, row in zip(scores.key, scores.predicted, scores.scores, strict=True):
        writer.writerow([names[key], class_names[predicted], *(f"{value:.9g}" for value in row)])
    path = folder / "predictions.csv"
    write_atomically(path, text.getvalue().encode())
    return path
