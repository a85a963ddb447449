"""Published tables as data: rows with their source, and the runs of mmood that they can be held against."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Convention = Literal["id_pos", "ood_pos", "unknown"]
Values = Mapping[str, float]
"""Metric -> value in [0, 1]: `auroc`, `fpr95_id_pos`, `fpr95_ood_pos`; `fpr95` where the convention is not known."""

GRADES: dict[str, str] = {
    "table": "read in a stored copy of the table",
    "figure": "read from a picture of the table",
    "quoted": "as a later paper quotes it",
    "readme": "from the authors' page",
    "log": "from a log of the authors' code",
    "transcribed": "as a third party's code has it",
    "rerun": "from an independent re-run",
    "abstract": "from the abstract",
    "note": "from a third party's reading note",
    "lead": "from a leaderboard",
}
"""How a row was read -> in words."""


@dataclass(frozen=True)
class Model:
    """Weights that rows are of.

    Attributes:
        name: as an encoder is named.
        parameters: of both towers together.
        same_as: other names of the same weights.
    """

    name: str
    parameters: int
    same_as: tuple[str, ...] = ()


@dataclass(frozen=True)
class RunPlan:
    """The commands of mmood that make a run.

    Attributes:
        name: of the run.
        commands: arguments behind `mmood`, in order; {out} stands for its folder, {run:NAME} for that of another run.
        sets: that it needs besides those of the benchmark.
        seeds: over which the paper takes the mean; empty for the seed of the config.
        needs: flag that a user must give -> what for.
        memory: what it needs of a GPU, in words; "" where only weights and a batch of images must fit.
    """

    name: str
    commands: tuple[str, ...]
    sets: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    needs: Mapping[str, str] = field(default_factory=dict)
    memory: str = ""


@dataclass(frozen=True)
class Protocol:
    """How mmood computes what a row states.

    Attributes:
        name: of the protocol.
        run: name of the run that has the score.
        scores: names under which configs give the score.
        module: class of the model.
        settings: dotted name -> what the run must have recorded of its module; `{"not": value}` is anything else.
        score_settings: likewise of the score.
    """

    name: str
    run: str
    scores: tuple[str, ...]
    module: str
    settings: Mapping[str, Any]
    score_settings: Mapping[str, Any]


@dataclass(frozen=True)
class PublishedRow:
    """A method in a table.

    Attributes:
        method: as the paper calls it.
        fpr95: convention of its FPR95.
        protocol: how mmood computes it, None where it does not.
        sets: OoD set -> values.
        means: group of sets -> values.
        accuracy: on the ID test images, None if it is not stated.
    """

    method: str
    fpr95: Convention
    protocol: Protocol | None
    sets: Mapping[str, Values]
    means: Mapping[str, Values]
    accuracy: float | None


@dataclass(frozen=True)
class PublishedTable:
    """A table of a paper.

    Attributes:
        paper: name of the paper.
        name: of the table.
        title: what it shows.
        source: the paper in words.
        benchmark: of the sets, None where mmood has no such benchmark.
        model: name of the weights.
        grade: how it was read, a key of `GRADES`.
        read_in: where it was read.
        notes: what to know when comparing numbers.
        differs: in what the protocol of the paper differs from a run of mmood, in sentences.
        tolerance: metric -> how far a run may be from it and still reproduce it, in [0, 1].
        rows: the methods.
    """

    paper: str
    name: str
    title: str
    source: str
    benchmark: str | None
    model: str
    grade: str
    read_in: str
    notes: str
    differs: tuple[str, ...]
    tolerance: Values
    rows: tuple[PublishedRow, ...]

    @property
    def id(self) -> str:
        """What names the table among all: `PAPER:TABLE`."""
        return f"{self.paper}:{self.name}"

    def protocols(self) -> dict[str, Protocol]:
        """Return the protocols of its rows by name, each once."""
        return {row.protocol.name: row.protocol for row in self.rows if row.protocol is not None}


@dataclass(frozen=True)
class Registry:
    """All that is known of published tables.

    Attributes:
        tables: by `PAPER:TABLE`.
        runs: by name.
        models: by name.
    """

    tables: Mapping[str, PublishedTable]
    runs: Mapping[str, RunPlan]
    models: Mapping[str, Model]

    def of_paper(self, paper: str) -> list[PublishedTable]:
        """Return the tables of a paper in order; empty if it has none."""
        return [table for table in self.tables.values() if table.paper == paper]

    def papers(self) -> list[str]:
        """Return the names of all papers, sorted."""
        return sorted({table.paper for table in self.tables.values()})

    def same_weights(self, model: str) -> tuple[str, ...]:
        """Return all names of the weights that a table is of."""
        known = self.models.get(model)
        return (model,) if known is None else (model, *known.same_as)
