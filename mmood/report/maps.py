"""The maps that a run has written, for the images that a report shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from PIL import Image

from mmood.errors import MmoodError
from mmood.images.maps import overlay, value_range
from mmood.images.preprocessing import Preprocessing
from mmood.report.runs import Run
from mmood.results.arrays import read_arrays, run_of_arrays
from mmood.runs.identity import check_same_run


@dataclass(frozen=True)
class SetMaps:
    """The maps of the images of a set.

    Attributes:
        key: (N,) index of the image in its set.
        values: (N, rows, columns), higher = more in-distribution.
    """

    key: Int[np.ndarray, " n"]
    values: Float[np.ndarray, "n rows columns"]


@dataclass(frozen=True)
class RunMaps:
    """The maps of one score of a run.

    Attributes:
        score: its name.
        preprocessing: says which part of an image the tower saw.
        limits: the values at which the colours begin and end, the same for all images.
        sets: the maps of each set.
    """

    score: str
    preprocessing: Preprocessing
    limits: tuple[float, float]
    sets: Mapping[str, SetMaps]

    def over(self, of: str, key: int, picture: Image.Image, size: tuple[int, int]) -> Image.Image | None:
        """Return a picture with its map laid over it; None if there is no map of it.

        Args:
            of: name of the set.
            key: of the image.
            picture: the image at any size.
            size: (width, height) of the image that the run read.
        """
        maps = self.sets.get(of)
        place = -1 if maps is None else int(np.searchsorted(maps.key, key))
        if maps is None or place >= len(maps.key) or maps.key[place] != key:
            return None
        box = self.preprocessing.seen(size).scaled(picture.width / size[0], picture.height / size[1])
        return overlay(picture, maps.values[place], box, self.limits)


def run_maps(run: Run) -> RunMaps | None:
    """Return the maps of a run's leading score, or of its first score with maps; None if it has written none.

    Raises:
        MmoodError: a file of maps is broken, or of another run.
    """
    encoder = run.results.provenance.get("encoder")
    preprocessing = Preprocessing.of_identity(encoder) if isinstance(encoder, Mapping) else None
    if run.id_set is None or not _path(run, run.id_set).is_file():
        return None
    if preprocessing is None or not preprocessing.shows_known_part():
        return None
    files = {name: _read(run, name) for name in run.sets if _path(run, name).is_file()}
    leading = run.leading_score()
    scores = files[run.id_set].keys()
    score = leading if leading in scores else next(iter(scores), None)
    if score is None:
        return None
    sets = {name: maps[score] for name, maps in files.items() if score in maps}
    return RunMaps(score, preprocessing, value_range(sets[run.id_set].values), sets)


def _path(run: Run, name: str) -> Path:
    return run.folder / "maps" / f"{name}.npz"


def _read(run: Run, name: str) -> dict[str, SetMaps]:
    path = _path(run, name)
    what = f"The file of maps {path}"
    check_same_run(what, run_of_arrays(path, what), run.results.run)
    arrays = read_arrays(path, what, dimensions=3)
    key = arrays.pop("key", np.empty((0, 0)))
    if key.ndim != 1 or key.dtype.kind != "i" or (np.diff(key) <= 0).any():
        raise MmoodError(f"{what} has no ascending array 'key' of whole numbers; `mmood test` writes one.")
    for score, values in arrays.items():
        if values.ndim != 3 or len(values) != len(key) or 0 in values.shape[1:] or np.isnan(values).any():
            raise MmoodError(
                f"{what} has '{score:.80}' of shape {values.shape}; it must have a grid of numbers for each of the "
                f"{len(key)} images."
            )
    return {score: SetMaps(key, values) for score, values in arrays.items()}
