"""The results of a run as data: what `results.json` holds and every table shows. Numbers are in [0, 1]."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal

from mmood.metrics.functional import OoDMetrics, Rates, group_means
from mmood.results.audit import Audit

SCHEMA = 1
Protocol = Literal["static", "test_time"]
POOLED = "id+csid"
"""Of rows whose ID images are those of the ID set and of all covariate-shifted ID sets; the last part of a variant."""
ROW_FIELDS: tuple[str, ...] = (
    *("score", "variant", "seed", "protocol", "set", "group", "n_id", "n_ood"),
    *("auroc", "aupr_id", "aupr_ood", "fpr95_id_pos", "fpr95_ood_pos"),
)


def joined_variant(*parts: str | None) -> str | None:
    """Return what results call several things that differ from the plain run; None for none of them.

    >>> joined_variant(None, "gaussian_noise 3", "id+csid")
    'gaussian_noise 3, id+csid'
    """
    return ", ".join(filter(None, parts)) or None


def unpooled(variant: str | None) -> tuple[str | None, bool]:
    """Return the variant of a row without `id+csid`, and whether it had that.

    >>> unpooled("gaussian_noise 3, id+csid"), unpooled("id+csid"), unpooled(None)
    (('gaussian_noise 3', True), (None, True), (None, False))
    """
    *rest, last = (variant or "").split(", ")
    return (", ".join(rest) or None, True) if last == POOLED else (variant, False)


@dataclass(frozen=True, kw_only=True)
class IdRow:
    """An ID set: its size, and the share classified correctly (None for a model that names no class).

    `variant` names the weights where a run evaluates several, as in `ResultRow`.
    """

    set: str
    n: int
    accuracy: float | None
    variant: str | None = None


@dataclass(frozen=True, kw_only=True)
class ResultRow:
    """One score on one OoD set.

    Attributes:
        score: name of the score.
        variant: which of several in a run, such as a head of a grid; None if there is one.
        seed: of the order of a stream; None for scores that do not depend on it.
        protocol: "static", or "test_time" if the score adapts on the test stream.
        set: name of the OoD set.
        group: group of the set, such as "near".
        metrics: of ID against this set.
    """

    score: str
    variant: str | None = None
    seed: int | None = None
    protocol: Protocol = "static"
    set: str
    group: str
    metrics: OoDMetrics

    def as_dict(self) -> dict[str, object]:
        """Return the row as in `results.json`: flat, in the order of `ROW_FIELDS`."""
        flat = {**vars(self), **asdict(self.metrics)}
        return {name: flat[name] for name in ROW_FIELDS}


@dataclass(frozen=True, kw_only=True)
class MeanRow:
    """The unweighted mean of one score over the sets of a group, or of "all" groups."""

    score: str
    variant: str | None
    protocol: Protocol
    group: str
    rates: Rates

    def as_dict(self) -> dict[str, object]:
        """Return the mean as in `results.json`: flat."""
        return {**{name: value for name, value in vars(self).items() if name != "rates"}, **asdict(self.rates)}


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """How many images of an OoD set are exact copies of ID images, or of a test set of training images.

    Attributes:
        set: the OoD set, or the test set.
        id_set: the ID test set, or the ID training set.
        n: number of images of the first set.
        copies: number of them that are in the ID set; None if they were not compared.
        reason: why they were not compared, as a sentence; None if they were.
        trained_on: whether a test set was compared with the images that the model was trained on.
    """

    set: str
    id_set: str
    n: int
    copies: int | None
    reason: str | None = None
    trained_on: bool = False


@dataclass(frozen=True, kw_only=True)
class Results:
    """Everything that a run measured, and the settings behind it.

    Attributes:
        run: id of the run, which all of its files bear; None in results from before runs had one.
        stage: "validate" or "test".
        provenance: settings behind the numbers, as plain data.
        id: the ID sets.
        rows: one for each score, variant, seed and OoD set.
        means: of the rows, made by `build_results`.
        skipped: samples that could not be read and were left out: set, key, shard, sample and reason of each.
        overlap: OoD images that are ID images; empty where nothing was compared.
        audit: OoD images that look like ID images; None where that was not asked for.
        partial: only a part of the samples was evaluated, so the numbers are no results.
        files: path below the run folder -> sha256 of each file of scores, as it was written; empty in results from
            before they were recorded, and where none are kept.
    """

    run: str | None
    stage: str
    provenance: Mapping[str, object]
    id: tuple[IdRow, ...]
    rows: tuple[ResultRow, ...]
    means: tuple[MeanRow, ...]
    skipped: tuple[Mapping[str, object], ...] = ()
    overlap: tuple[Overlap, ...] = ()
    audit: Audit | None = None
    partial: bool = False
    files: Mapping[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, object]:
        """Return the results as in `results.json`."""
        return {
            "schema": SCHEMA,
            **({} if self.run is None else {"run": self.run}),
            "stage": self.stage,
            **({"partial": True} if self.partial else {}),
            "provenance": dict(self.provenance),
            "id": [asdict(row) for row in self.id],
            "rows": [row.as_dict() for row in self.rows],
            "means": [mean.as_dict() for mean in self.means],
            **({"overlap": [asdict(one) for one in self.overlap]} if self.overlap else {}),
            **({} if self.audit is None else {"audit": self.audit.as_dict()}),
            **({"skipped": [dict(sample) for sample in self.skipped]} if self.skipped else {}),
            **({"files": dict(self.files)} if self.files else {}),
        }


def build_results(
    *,
    run: str | None = None,
    stage: str,
    provenance: Mapping[str, object],
    id_rows: Iterable[IdRow],
    rows: Iterable[ResultRow],
    skipped: Iterable[Mapping[str, object]] = (),
    overlap: Iterable[Overlap] = (),
    audit: Audit | None = None,
    partial: bool = False,
) -> Results:
    """Return the results with the means of each score and variant over every group of sets and over "all".

    Raises:
        MmoodError: a group of sets is itself called "all".
    """
    rows = tuple(rows)
    scores: dict[tuple[str, str | None, Protocol], list[ResultRow]] = {}
    for row in rows:
        scores.setdefault((row.score, row.variant, row.protocol), []).append(row)
    means = [
        MeanRow(score=score, variant=variant, protocol=protocol, group=group, rates=rates)
        for (score, variant, protocol), own in scores.items()
        for group, rates in group_means((row.group, row.set, row.metrics) for row in own).items()
    ]
    return Results(
        run=run,
        stage=stage,
        provenance=provenance,
        id=tuple(id_rows),
        rows=rows,
        means=tuple(means),
        skipped=tuple(skipped),
        overlap=tuple(overlap),
        audit=audit,
        partial=partial,
    )


def joined_results(passes: Mapping[str, Results]) -> Results:
    """Return the results of several passes over the same sets, by variant, as those of one run.

    Its provenance is that of the last pass, under `variants` the encoder of each, under `streams` the streams of all.
    """
    first, *_, last = passes.values()
    encoders = {variant: results.provenance.get("encoder") for variant, results in passes.items()}
    return Results(
        run=first.run,
        stage=first.stage,
        provenance={**last.provenance, "variants": encoders, **_joined_streams(list(passes.values()))},
        id=tuple(row for results in passes.values() for row in results.id),
        rows=tuple(row for results in passes.values() for row in results.rows),
        means=tuple(mean for results in passes.values() for mean in results.means),
        skipped=first.skipped,
        overlap=first.overlap,
        audit=first.audit,
        partial=any(results.partial for results in passes.values()),
    )


def _joined_streams(passes: Sequence[Results]) -> dict[str, object]:
    sections = [section for results in passes if isinstance(section := results.provenance.get("streams"), Mapping)]
    if not sections:
        return {}
    return {"streams": {**sections[-1], "runs": [run for section in sections for run in section["runs"]]}}
