"""Published rows beside the runs that were made for them, and what may be concluded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Literal

from mmood.published.model import PublishedRow, PublishedTable, Values
from mmood.report.published import compared, differences
from mmood.report.runs import Run, load_runs
from mmood.reproduction.plan import Plan, Wishes

Verdict = Literal["reproduced", "not reproduced", "no verdict", "not run", "no such method"]


@dataclass(frozen=True)
class Compared:
    """A number of a row and that of the runs.

    Attributes:
        place: the set, "mean of GROUP", or "ID".
        metric: of the number.
        published: in [0, 1].
        ours: mean over the runs of the seeds.
        tolerance: how far they may be apart.
    """

    place: str
    metric: str
    published: float
    ours: float
    tolerance: float

    @property
    def difference(self) -> float:
        """Ours minus the published one."""
        return self.ours - self.published

    @property
    def fits(self) -> bool:
        """Whether the difference is within the tolerance, as both are printed."""
        return abs(self.difference) <= self.tolerance + 5e-5


@dataclass(frozen=True)
class Outcome:
    """A published row beside its runs.

    Attributes:
        row: the published one.
        verdict: what may be concluded.
        numbers: what both state.
        reasons: why there is no verdict, in words.
        runs: folders that the numbers are of.
        score: of the runs, "" without any.
    """

    row: PublishedRow
    verdict: Verdict
    numbers: tuple[Compared, ...] = ()
    reasons: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()
    score: str = ""

    def as_dict(self) -> dict[str, object]:
        """Return the outcome as plain data."""
        return {
            "method": self.row.method,
            "verdict": self.verdict,
            "reasons": list(self.reasons),
            "runs": list(self.runs),
            "score": self.score,
            "numbers": [{**asdict(one), "difference": one.difference, "fits": one.fits} for one in self.numbers],
        }


def outcomes(plan: Plan, wishes: Wishes) -> list[Outcome]:
    """Return each row of the table beside its runs."""
    loaded: dict[str, list[Run]] = {}
    for name, folders in plan.runs.items():
        there = [folder for folder in folders if (folder / "results.json").is_file()]
        loaded[name] = load_runs(there) if len(there) == len(folders) else []
    return [_outcome(plan.table, row, loaded, wishes) for row in plan.table.rows]


def _outcome(table: PublishedTable, row: PublishedRow, loaded: Mapping[str, list[Run]], wishes: Wishes) -> Outcome:
    if row.protocol is None:
        return Outcome(row, "no such method")
    runs = loaded[row.protocol.run]
    if not runs:
        return Outcome(row, "not run")
    score = next((name for name in row.protocol.scores if any(each.score == name for each in runs[0].results.rows)), "")
    reasons = [f"{name} is {own}, a stand-in" for name, own in wishes.stand_in.items()]
    reasons += dict.fromkeys(
        said for run in runs for said in differences(run, score, table, row.protocol) if not _said(said, wishes)
    )
    found = [compared(run, score, table, row, wishes.stand_in or None) for run in runs]
    numbers = [*_numbers(table, found), *_accuracy(table, row, runs)]
    missing = [name for name in row.sets if any(name not in each for each in found)]
    left_out = {name for name in missing if wishes.stand_in and name not in wishes.stand_in}
    reasons += [f"{name} was {'left out' if name in left_out else 'not tested as a whole'}" for name in missing]
    if not numbers:
        reasons.append("no published number has its counterpart in the run")
    verdict: Verdict = "reproduced" if all(one.fits for one in numbers) else "not reproduced"
    folders = tuple(_below(run.folder, wishes.out) for run in runs)
    return Outcome(row, "no verdict" if reasons else verdict, tuple(numbers), tuple(reasons), folders, score)


def _said(difference: str, wishes: Wishes) -> bool:
    """Return whether the stand-ins say it already: other ID images."""
    return bool(wishes.stand_in) and difference.startswith("ID is ")


def _numbers(table: PublishedTable, found: Sequence[Mapping[str, tuple[Values, Values]]]) -> list[Compared]:
    """Return the numbers that every run has, averaged over the runs."""
    first, *others = found
    numbers = []
    for place, (own, published) in first.items():
        if all(place in other for other in others):
            for metric in own:
                ours = fmean(each[place][0][metric] for each in found)
                tolerance = table.tolerance["auroc" if metric == "auroc" else "fpr95"]
                numbers.append(Compared(place, metric, published[metric], ours, tolerance))
    return numbers


def _accuracy(table: PublishedTable, row: PublishedRow, runs: Sequence[Run]) -> list[Compared]:
    own = [run.results.id[0].accuracy for run in runs if run.results.id]
    known = [accuracy for accuracy in own if accuracy is not None]
    if row.accuracy is None or not known or len(known) < len(runs):
        return []
    return [Compared("ID", "accuracy", row.accuracy, fmean(known), table.tolerance["accuracy"])]


def _below(folder: Path, out: Path) -> str:
    return folder.relative_to(out.absolute()).as_posix() if folder.is_relative_to(out.absolute()) else str(folder)
