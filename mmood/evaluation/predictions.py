"""The scores of single images as files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmood.evaluation.store import SetScores
from mmood.files import write_atomically
from mmood.output.escaping import csv_text
from mmood.results.arrays import arrays_bytes


def write_scores(folder: Path, run: str, scores: SetScores) -> Path:
    """Write `scores/<set>.npz`: key, label, predicted (int64) and one float32 array per score; returns the path."""
    fixed = {"key": scores.key, "label": scores.label, "predicted": scores.predicted}
    path = folder / "scores" / f"{scores.set}.npz"
    write_atomically(path, arrays_bytes({**fixed, **{name: scores.of(name) for name in scores.names}}, run))
    return path


@dataclass(frozen=True)
class Inputs:
    """What was to be predicted.

    Attributes:
        names: name of the image with each key.
        unscored: key -> why the image has no scores.
    """

    names: Sequence[str]
    unscored: Mapping[int, str]

    def summary(self) -> str:
        """Return in a sentence how many images have scores, with an example of those that have none."""
        count, total = len(self.unscored), len(self.names)
        if not count:
            return f"All {total:,} images were scored."
        key = min(self.unscored)
        example = f"such as {self.names[key]}: {self.unscored[key]}."
        rest = f"{count:,} {'is' if count == 1 else 'are'} not"
        return f"{total - count:,} of {total:,} images were scored; {rest}, {example}"


def write_predictions(folder: Path, run: str, scores: SetScores, inputs: Inputs, class_names: Sequence[str]) -> Path:
    """Write `predictions.csv`: a row for each image in the order of the inputs; returns the path.

    Its columns are `image`, `status` (`ok`, or `broken` with a `reason`), `class` (the nearest one), one for each
    score, and `run`.

    Args:
        folder: the run folder.
        run: id of the run.
        scores: of the images that could be scored.
        inputs: all images.
        class_names: the ID classes.
    """
    rows: dict[int, list[object]] = {}
    for key, predicted, values in zip(scores.key.tolist(), scores.predicted.tolist(), scores.scores, strict=True):
        nearest = class_names[predicted] if predicted >= 0 else None
        # Nine digits tell any two float32 apart.
        rows[key] = [inputs.names[key], "ok", None, nearest, *(float(f"{value:.9g}") for value in values), run]
    for key, reason in inputs.unscored.items():
        rows[key] = [inputs.names[key], "broken", reason, None, *(None for _ in scores.names), run]
    heads = ["image", "status", "reason", "class", *scores.names, "run"]
    path = folder / "predictions.csv"
    write_atomically(path, csv_text([heads, *(rows[key] for key in sorted(rows))]).encode())
    return path
