"""Run folders as a report reads them: results, settings, and the score of every image."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from mmood.errors import MmoodError
from mmood.files import parse_yaml, read_text
from mmood.results.arrays import read_arrays, run_of_arrays
from mmood.results.blocks import label
from mmood.results.model import ResultRow, Results
from mmood.results.serialisation import read_results
from mmood.runs.identity import check_same_run
from mmood.runs.run_files import run_of_config

# The last part of a folder that a run chose itself: runs/NAME/VERSION.
_VERSION = re.compile(r"version_\d+|job_.+")
_FIXED = ("key", "label", "predicted")


@dataclass(frozen=True)
class SetFile:
    """`scores/<set>.npz`: an entry for each image, in the order of the keys.

    Attributes:
        key: (N,) index of the image in its set.
        label: (N,) class index, -1 for OoD.
        predicted: (N,) class index, -1 where nothing was predicted.
        scores: name -> (N,) values, higher = more in-distribution.
        samples: hash of index and keys: equal for the same images in the same order.
    """

    key: Int[np.ndarray, " n"]
    label: Int[np.ndarray, " n"]
    predicted: Int[np.ndarray, " n"]
    scores: Mapping[str, Float[np.ndarray, " n"]]
    samples: str


@dataclass(frozen=True)
class Run:
    """A run folder.

    Attributes:
        name: short, and different from those of the other runs of the report.
        folder: where it lies.
        results: what it measured.
        config: its resolved settings; empty if the folder has none.
        sets: set -> scores of its images; empty if the run did not keep them.
    """

    name: str
    folder: Path
    results: Results
    config: Mapping[str, Any] = field(default_factory=dict)
    sets: Mapping[str, SetFile] = field(default_factory=dict)

    @property
    def id_set(self) -> str | None:
        """Name of the ID set."""
        return self.results.id[0].set if self.results.id else None

    @property
    def id_file(self) -> SetFile | None:
        """The scores of the ID images, if they were kept."""
        return None if self.id_set is None else self.sets.get(self.id_set)

    def pairs(self) -> list[tuple[str, str]]:
        """Return each (score, OoD set) of which the scores of all images are there, in the order of the results."""
        if self.id_file is None:
            return []
        rows = dict.fromkeys((_array(row), row.set) for row in self.results.rows if row.seed is None)
        return [
            (name, of)
            for name, of in rows
            if name in self.id_file.scores and of in self.sets and name in self.sets[of].scores
        ]

    def leading_score(self) -> str | None:
        """Return the static score of highest AUROC over all sets: the one that single images are shown by."""
        means = [mean for mean in self.results.means if mean.group == "all" and mean.protocol == "static"]
        kept = {name for name, _ in self.pairs()}
        ranked = sorted(means, key=lambda mean: -mean.rates.auroc)
        return next((name for mean in ranked if (name := label(mean.score, mean.variant)) in kept), None)


def load_runs(folders: Sequence[Path]) -> list[Run]:
    """Return the runs, named by the shortest ends of their paths that differ.

    Raises:
        MmoodError: a folder holds no results, a file in it is broken or of another run, or a folder is named twice.
    """
    absolute = [folder.absolute() for folder in folders]
    if len(set(absolute)) < len(absolute):
        raise MmoodError("A run folder is named twice; the runs of a report must be different.")
    return [_load(folder, name) for folder, name in zip(absolute, short_names(absolute), strict=True)]


def short_names(folders: Sequence[Path]) -> list[str]:
    """Return the shortest ends of different paths that tell them apart; of one alone, the name that the run was given.

    >>> short_names([Path("runs/mcm/version_0"), Path("runs/csp/version_0")])
    ['mcm/version_0', 'csp/version_0']
    >>> short_names([Path("runs/mcm/version_0")])
    ['mcm']
    """
    if len(folders) == 1 and _VERSION.fullmatch(folders[0].name) and folders[0].parent.name:
        return [folders[0].parent.name]
    for length in range(1, max(len(folder.parts) for folder in folders)):
        names = ["/".join(folder.parts[-length:]) for folder in folders]
        if len(set(names)) == len(names):
            return names
    return [str(folder) for folder in folders]


def _load(folder: Path, name: str) -> Run:
    results = read_results(folder)
    recorded = results.provenance.get("sets", {})
    hashes = (
        {of: str(entry.get("index_sha256")) for of, entry in recorded.items()} if isinstance(recorded, dict) else {}
    )
    files = sorted((folder / "scores").glob("*.npz"))
    sets = {path.stem: _set_file(path, hashes.get(path.stem, ""), results.run) for path in files}
    return Run(name, folder, results, _config(folder / f"config.{results.stage}.yaml", results.run), sets)


def _config(path: Path, run: str | None) -> dict[str, Any]:
    if not path.is_file():
        return {}
    what = f"The file of settings {path}"
    text = read_text(path, what)
    check_same_run(what, run_of_config(text), run)
    config = parse_yaml(text, what)
    return config if isinstance(config, dict) else {}


def _set_file(path: Path, index_hash: str, run: str | None) -> SetFile:
    what = f"The file of scores {path}"
    check_same_run(what, run_of_arrays(path, what), run)
    arrays = read_arrays(path, what)
    if missing := [name for name in _FIXED if name not in arrays]:
        raise MmoodError(f"The scores {path} have no array '{missing[0]}'; `mmood test` writes them with all three.")
    if len({array.shape for array in arrays.values()}) > 1 or not all(arrays[n].dtype.kind == "i" for n in _FIXED):
        raise MmoodError(f"The arrays of {path} have different lengths; each must have one value per image.")
    steps = np.diff(arrays["key"])
    if (steps == 0).any():
        twice = arrays["key"][:-1][steps == 0][0]
        raise MmoodError(f"The key {twice} stands twice in {path}, so an image would count twice.")
    if (steps < 0).any() or (arrays["key"] < 0).any():
        raise MmoodError(f"The keys in {path} do not count up from 0, so its rows are not the images of a set.")
    if broken := [name for name, array in arrays.items() if np.isnan(array).any()]:
        raise MmoodError(f"The scores {path} hold a value of '{broken[0]}' that is not a number.")
    scores = {name: array for name, array in arrays.items() if name not in _FIXED}
    samples = hashlib.sha256(index_hash.encode() + arrays["key"].tobytes()).hexdigest()
    return SetFile(arrays["key"], arrays["label"], arrays["predicted"], scores, samples)


def _array(row: ResultRow) -> str:
    return label(row.score, row.variant)
