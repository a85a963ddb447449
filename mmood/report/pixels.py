"""What a run of scores of pixels left behind for a page: rates of classes, and pictures of its worst images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from mmood.errors import MmoodError
from mmood.files import Fields, parse_json, read_limited
from mmood.report.runs import Run
from mmood.results.arrays import read_arrays, run_of_arrays
from mmood.runs.identity import check_same_run

_OOD = -1
_TARGETS = "targets"
_PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class WorstPixel:
    """A pixel that a score gets most wrong.

    Attributes:
        name: of its class, or "OoD".
        row: from above.
        column: from the left.
    """

    name: str
    row: int
    column: int


@dataclass(frozen=True)
class WorstImage:
    """An image that looks most like OoD to the score.

    Attributes:
        key: index in its set.
        picture: PNG of the image with the map laid over it.
        found: share of its OoD pixels that the threshold rejects; None without any.
        alarms: share of its ID pixels that the threshold rejects; None without any.
        false_alarm: the ID pixel with the lowest score; None without any.
        miss: the OoD pixel with the highest score; None without any.
    """

    key: int
    picture: bytes
    found: float | None
    alarms: float | None
    false_alarm: WorstPixel | None
    miss: WorstPixel | None


@dataclass(frozen=True)
class PixelSet:
    """A test set of a run.

    Attributes:
        name: of the set.
        score: whose images are shown: that of the highest AUROC of pixels.
        iou: IoU of each class.
        rejected: score -> share of the pixels of each class below the threshold that accepts 95 % of the ID pixels.
        rejected_ood: score -> that share of the OoD pixels; None without any.
        images: the worst ones, by key.
    """

    name: str
    score: str
    iou: Mapping[str, float]
    rejected: Mapping[str, Mapping[str, float]]
    rejected_ood: Mapping[str, float | None]
    images: Sequence[WorstImage]


def pixel_sets(run: Run) -> list[PixelSet]:
    """Return the sets of a run of scores of pixels; none of a run of another kind.

    Raises:
        MmoodError: a file of the run is broken, or of another run.
    """
    path = run.folder / "dense.json"
    if not path.is_file():
        return []
    what = f"The file of details {path}"
    top = Fields(parse_json(read_limited(path, what), what), what)
    check_same_run(what, top.text_or_null("run"), run.results.run)
    classes = top.texts("classes") if top.has("classes") else ()
    sets = top.child("sets")
    return [_pixel_set(run, name, sets.child(name), classes) for name in sets.raw]


def _pixel_set(run: Run, name: str, fields: Fields, classes: Sequence[str]) -> PixelSet:
    scores = {score: fields.child("scores").child(score) for score in fields.child("scores").raw}
    known = {score: entry for score, entry in scores.items() if entry.has("rejected")}
    leading = _leading(run, name, list(scores))
    threshold = known[leading].number("threshold") if leading in known else None
    folder = run.folder / "maps" / name
    paths = sorted(folder.glob("*.npz"), key=lambda path: (len(path.stem), path.stem))
    return PixelSet(
        name,
        leading,
        _shares(fields.child("iou")),
        {score: _shares(entry.child("rejected")) for score, entry in known.items()},
        {score: entry.share_or_null("rejected_ood") for score, entry in known.items()},
        [_image(run, path, leading, threshold, classes) for path in paths],
    )


def _shares(fields: Fields) -> dict[str, float]:
    return {name: fields.share(name) for name in fields.raw}


def _leading(run: Run, name: str, scores: Sequence[str]) -> str:
    """Return the score of the highest AUROC of OoD pixels, or of errors where a set has no OoD pixel."""
    for convention in ("pixels", "errors"):
        rows = [row for row in run.results.rows if row.set == f"{name}: {convention}" and row.score in scores]
        if rows:
            return max(rows, key=lambda row: row.metrics.auroc).score
    return scores[0] if scores else ""


def _image(run: Run, path: Path, score: str, threshold: float | None, classes: Sequence[str]) -> WorstImage:
    what = f"The file of maps {path}"
    check_same_run(what, run_of_arrays(path, what), run.results.run)
    arrays = read_arrays(path, what, dimensions=2)
    targets, scores = arrays.get(_TARGETS), arrays.get(score)
    if (
        targets is None
        or scores is None
        or targets.ndim != 2
        or targets.shape != scores.shape
        or not path.stem.isdigit()
    ):
        raise MmoodError(f"{what} has no arrays '{_TARGETS}' and '{score:.80}' of one shape; `mmood test` writes both.")
    picture = path.with_suffix(f".{score}.png")
    content = read_limited(picture, f"The picture {picture}")
    if not content.startswith(_PNG):
        raise MmoodError(f"The picture {picture} is no PNG; `mmood test` writes one.")
    is_id, is_ood = targets >= 0, targets == _OOD
    return WorstImage(
        int(path.stem),
        content,
        _below(scores[is_ood], threshold),
        _below(scores[is_id], threshold),
        _worst(np.where(is_id, scores, np.inf), targets, classes) if is_id.any() else None,
        _worst(np.where(is_ood, -scores, np.inf), targets, classes) if is_ood.any() else None,
    )


def _below(scores: Float[np.ndarray, " n"], threshold: float | None) -> float | None:
    return float(np.mean(scores < threshold)) if threshold is not None and len(scores) else None


def _worst(
    wrong: Float[np.ndarray, "height width"], targets: Int[np.ndarray, "height width"], classes: Sequence[str]
) -> WorstPixel:
    """Return the pixel with the lowest value."""
    row, column = (int(place) for place in np.unravel_index(int(wrong.argmin()), wrong.shape))
    target = int(targets[row, column])
    name = "OoD" if target == _OOD else classes[target] if target < len(classes) else f"class {target}"
    return WorstPixel(name, row, column)
