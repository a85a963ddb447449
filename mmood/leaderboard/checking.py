"""Whether a run folder is what it says: files, keys, labels and scores against the results that it claims."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from mmood.errors import MmoodError
from mmood.metrics.functional import OoDMetrics, Rates, accuracy, group_means, ood_metrics
from mmood.recipes.registry import known_recipe
from mmood.report.runs import Run, SetFile, load_runs
from mmood.results.arrays import read_arrays, run_of_arrays
from mmood.results.blocks import label
from mmood.results.model import POOLED, IdRow, ResultRow, unpooled
from mmood.runs.identity import check_same_run

_EXACT = 1e-9
"""Numbers are computed as the run computed them; this much is left to another build of numpy."""
_NAMES = {
    "auroc": "AUROC", "aupr_id": "AUPR ID", "aupr_ood": "AUPR OoD", "fpr95_id_pos": "FPR95 ID-pos",
    "fpr95_ood_pos": "FPR95 OoD-pos", "accuracy": "ID accuracy", "n_id": "number of ID images",
    "n_ood": "number of OoD images",
}  # fmt: skip


@dataclass(frozen=True)
class Sides:
    """The scores of ID and OoD images that a row of results rests on."""

    id: Float[np.ndarray, " id"]
    ood: Float[np.ndarray, " ood"]


@dataclass(frozen=True)
class Checked:
    """A run whose results are those of its scores.

    Attributes:
        run: as it was read.
        rows: its rows with the metrics computed here.
        sides: what each row rests on, in the same order.
        accuracy: of the ID sets, computed here.
        hashed: whether the results state the hash of every file of scores.
    """

    run: Run
    rows: tuple[ResultRow, ...]
    sides: tuple[Sides, ...]
    accuracy: Mapping[str, float]
    hashed: bool

    def images(self, name: str) -> str:
        """Return what names the images of a set: the hash of its index and the keys."""
        return self.run.sets[name].samples


def check_run(folder: Path, name: str) -> Checked:
    """Return a run folder after every number in it was computed again from its raw scores.

    Args:
        folder: of the run.
        name: that it is shown by.

    Raises:
        MmoodError: it is no complete test, a file of it was changed, an image is missing or counts twice, or a number
            that it claims is not that of its scores.
    """
    run = replace(load_runs([folder])[0], name=name)
    _check_complete(run)
    _check_files(run)
    for name, entry in _recorded_sets(run).items():
        _check_set(run, name, entry)
    sides = tuple(_sides(run, row) for row in run.results.rows)
    rows = tuple(_recomputed(row, own) for row, own in zip(run.results.rows, sides, strict=True))
    _check_means(run, rows)
    return Checked(run, rows, sides, _accuracies(run), bool(run.results.files))


def check_together(runs: Iterable[Checked]) -> Iterator[tuple[Checked, str]]:
    """Yield the runs that do not go with one before, and why: the same run, or other labels of the same images."""
    seen: dict[str, Checked] = {}
    labels: dict[str, tuple[str, bytes]] = {}
    for each in runs:
        again = seen.setdefault(str(each.run.results.run), each)
        if again is not each:
            yield each, f"It is the run {each.run.results.run}, which {again.run.folder} already is."
            continue
        for name, file in each.run.sets.items():
            first, own = labels.setdefault(file.samples, (each.run.name, file.label.tobytes()))
            if own != file.label.tobytes():
                yield each, f"Its labels of {name} are not those that {first} has of the same images."
                break


def _check_complete(run: Run) -> None:
    results = run.results
    if results.stage != "test" or results.partial:
        raise MmoodError("It is not a complete test; `mmood test` without limits makes one.")
    if results.run is None:
        raise MmoodError("Its results have no id of a run, so its files could be of several; evaluate again.")
    if not results.rows:
        raise MmoodError("It has no OoD results.")
    if results.skipped:
        raise MmoodError(f"It left out {len(results.skipped):,} images that could not be read.")


def _check_files(run: Run) -> None:
    for name, claimed in run.results.files.items():
        path = run.folder / name
        if not path.is_file():
            raise MmoodError(f"The file {name} that its results name is missing.")
        if hashlib.sha256(path.read_bytes()).hexdigest() != claimed:
            raise MmoodError(f"The file {name} was changed after the run: its sha256 is not that in results.json.")


def _recorded_sets(run: Run) -> dict[str, Mapping[str, Any]]:
    recorded: Any = run.results.provenance.get("sets", {})
    names = {*_id_sets(run), *(row.set for row in run.results.rows)}
    if missing := sorted(names - recorded.keys()):
        raise MmoodError(f"It records nothing of the set {missing[0]}: its size and the hash of its index.")
    return {name: recorded[name] for name in sorted(names)}


def _check_set(run: Run, name: str, entry: Mapping[str, Any]) -> None:
    if name not in run.sets:
        raise MmoodError(
            f"It has no scores of the images of {name} (scores/{name}.npz); test with evaluation.save_scores."
        )
    keys, count = run.sets[name].key, entry.get("n")
    if len(keys) != count:
        raise MmoodError(f"It has scores of {len(keys):,} images of {name}, and records {count} images.")
    # The keys of a part of a larger set are those of the larger set.
    if "part_of" not in entry and len(keys) and keys[-1] != len(keys) - 1:
        missing = int(np.setdiff1d(np.arange(len(keys)), keys)[0])
        raise MmoodError(f"It has no scores of the image with key {missing} of {name}.")
    recipe = known_recipe(name)
    if recipe is not None and recipe.count not in (None, count):
        raise MmoodError(f"It has {count:,} images of {name}, which has {recipe.count:,}.")
    is_id, labels = name in _id_sets(run), run.sets[name].label
    unlabelled = entry.get("group") == "csid" and bool((labels < 0).all())
    if not unlabelled and ((labels < 0) == is_id).any():
        raise MmoodError(f"Some images of {name} are labelled {'OoD' if is_id else 'with ID classes'}.")


def _id_sets(run: Run) -> list[str]:
    """Return the ID set, and the covariate-shifted ID sets after it."""
    return [name for name in dict.fromkeys(entry.set for entry in run.results.id) if name != POOLED]


def _sides(run: Run, row: ResultRow) -> Sides:
    variant, pooled = unpooled(row.variant)
    name = label(row.score, variant)
    if row.seed is not None:
        return _stream_sides(run, row, name)
    assert run.id_set is not None, "a run with rows has an ID set"
    id_files = [run.sets[of] for of in (_id_sets(run) if pooled else [run.id_set])]
    if any(name not in file.scores for file in (*id_files, run.sets[row.set])):
        raise MmoodError(f"It has no scores '{name}' of the images of {row.set}, but results of them.")
    return Sides(np.concatenate([file.scores[name] for file in id_files]), run.sets[row.set].scores[name])


def _stream_sides(run: Run, row: ResultRow, name: str) -> Sides:
    path = run.folder / "scores" / "streams" / name / f"{row.set}.{row.seed}.npz"
    what = f"The file of scores {path}"
    if not path.is_file():
        raise MmoodError(
            f"It has results of '{name}' on {row.set} with seed {row.seed}, but not the scores of that stream."
        )
    check_same_run(what, run_of_arrays(path, what), run.results.run)
    arrays = read_arrays(path, what)
    if set(arrays) != {"key", "label", "score"} or len({array.shape for array in arrays.values()}) > 1:
        raise MmoodError(f"{what} does not hold key, label and score of each image.")
    is_ood = arrays["label"] < 0
    for inside, of in ((~is_ood, run.id_set), (is_ood, row.set)):
        _check_stream_keys(arrays["key"][inside], run.sets[str(of)], str(of), path)
    return Sides(arrays["score"][~is_ood], arrays["score"][is_ood])


def _check_stream_keys(keys: Int[np.ndarray, " n"], images: SetFile, name: str, path: Path) -> None:
    found, counts = np.unique(keys, return_counts=True)
    if (counts > 1).any():
        raise MmoodError(
            f"The key {found[counts > 1][0]} of {name} stands twice in {path}, so an image would count twice."
        )
    if odd := np.setdiff1d(found, images.key)[:1].tolist():
        raise MmoodError(f"The key {odd[0]} in {path} is that of no image of {name}.")


def _recomputed(row: ResultRow, sides: Sides) -> ResultRow:
    found = ood_metrics(sides.id, sides.ood)
    name = label(row.score, row.variant) + ("" if row.seed is None else f" (seed {row.seed})")
    _compare(f"'{name}' on {row.set}", row.metrics, found)
    return ResultRow(
        score=row.score, variant=row.variant, seed=row.seed, protocol=row.protocol, set=row.set, group=row.group,
        metrics=found,
    )  # fmt: skip


def _compare(of: str, claimed: Rates, found: Rates) -> None:
    for metric in (field.name for field in fields(found)):
        stated, own = getattr(claimed, metric), getattr(found, metric)
        if abs(stated - own) > _EXACT:
            claim, truth = (
                f"{value:,}" if metric.startswith("n_") else f"{100 * value:.10g} %" for value in (stated, own)
            )
            raise MmoodError(f"Its results claim {claim} as the {_NAMES[metric]} of {of}, but its scores give {truth}.")


def _check_means(run: Run, rows: Iterable[ResultRow]) -> None:
    scores: dict[tuple[str, str | None], list[tuple[str, str, OoDMetrics]]] = {}
    for row in rows:
        scores.setdefault((row.score, row.variant), []).append((row.group, row.set, row.metrics))
    for mean in run.results.means:
        found = group_means(scores.get((mean.score, mean.variant), []))
        if mean.group not in found:
            raise MmoodError(f"It claims a mean of '{mean.score}' over {mean.group} and has no such sets.")
        _compare(f"'{label(mean.score, mean.variant)}' in the mean over {mean.group}", mean.rates, found[mean.group])


def _accuracies(run: Run) -> dict[str, float]:
    return {
        row.set: found
        for row in run.results.id
        if row.accuracy is not None and (found := _accuracy(run, row)) is not None
    }


def _accuracy(run: Run, row: IdRow) -> float | None:
    if row.variant is not None:  # of several weights, one file has the predictions of one
        return None
    files = [run.sets[name] for name in (_id_sets(run) if row.set == POOLED else [row.set])]
    labels, predicted = (np.concatenate([getattr(file, of) for file in files]) for of in ("label", "predicted"))
    found = accuracy(labels, predicted)
    if row.accuracy is not None and abs(found - row.accuracy) > _EXACT:
        raise MmoodError(
            f"Its results claim {100 * row.accuracy:.4f} % as the ID accuracy, but its predictions give "
            f"{100 * found:.4f} %."
        )
    return found
