"""Published rows beside a run: which of them its protocol fits, and in what it differs from the others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from mmood.data.benchmarks import BENCHMARKS
from mmood.published.model import Protocol, PublishedRow, PublishedTable, Values
from mmood.published.registry import registry
from mmood.recipes.registry import find_recipe
from mmood.report.runs import Run
from mmood.results.blocks import label
from mmood.results.model import POOLED, ResultRow

METRICS = ("auroc", "fpr95_id_pos", "fpr95_ood_pos")
"""What can be compared: an FPR95 of unknown convention cannot."""
_STREAM = {"batch_size": 256, "order": "shuffled", "ratio": None, "carry": False}


@dataclass(frozen=True)
class Match:
    """A published row beside a score of a run.

    Attributes:
        run: name of the run.
        score: of the run.
        table: that the row is of.
        row: the published row.
        values: set, or "mean of GROUP" -> values of the run and of the row. A test-time score has the mean over the
            seeds of its streams.
    """

    run: str
    score: str
    table: PublishedTable
    row: PublishedRow
    values: Mapping[str, tuple[Values, Values]]


def matches(run: Run) -> list[Match]:
    """Return the published rows whose protocol fits: model, settings, ID images, and the images of each set.

    A number under other settings is another number: MCM at temperature 0.01 is 6 to 8 points of AUROC away.
    """
    found = []
    for table in registry().tables.values():
        for row in table.rows if table.benchmark in BENCHMARKS else ():
            for score in () if row.protocol is None else row.protocol.scores:
                fits = not list(differences(run, score, table, row.protocol))  # type: ignore[arg-type]
                if fits and (values := compared(run, score, table, row)):
                    found.append(Match(run.name, score, table, row, values))
    return found


def differences(run: Run, score: str, table: PublishedTable, protocol: Protocol) -> Iterator[str]:
    """Yield in what a score of a run is not what a table states: model, ID images, settings, stream; nothing if it is.

    The images of the OoD sets are compared by `compared`.
    """
    record: Mapping[str, Any] = run.results.provenance
    model, wanted = _model(run), registry().same_weights(table.model)
    if model not in wanted:
        yield f"the model is {model or 'not recorded'}, not {table.model}"
    yield from _other_id(run, table)
    if record.get("module") != protocol.module:
        yield f"the module is {record.get('module')}, not {protocol.module}"
    yield from _other_settings("the module", protocol.settings, record.get("settings", {}))
    settings = record.get("scores", {}).get(score)
    if settings is None:
        yield f"the run has no score '{score}'"
        return
    yield from _other_settings(f"the score '{score}'", protocol.score_settings, settings)
    if any(row.protocol == "test_time" and _array(row) == score for row in run.results.rows):
        streams: Any = record.get("streams", {})
        yield from _other_settings("the stream", _STREAM, streams.get("protocol", {}))


def compared(
    run: Run, score: str, table: PublishedTable, row: PublishedRow, named: Mapping[str, str] | None = None
) -> dict[str, tuple[Values, Values]]:
    """Return what both the run and the row state: set, or "mean of GROUP" -> their values.

    Args:
        run: of mmood.
        score: of the run.
        table: that the row is of.
        row: the published row.
        named: published set -> the set of the run that stands in for it, whatever its images; None compares whole sets
            of the same names alone.
    """
    own: dict[str, list[ResultRow]] = {}
    for each in run.results.rows:
        if _array(each) == score:
            own.setdefault(each.set, []).append(each)
    benchmark = BENCHMARKS.get(table.benchmark or "")
    groups = {} if benchmark is None else benchmark.ood
    rows = {
        name: own[place]
        for name in dict.fromkeys([*row.sets, *(name for names in groups.values() for name in names)])
        if (place := name if named is None else named.get(name, "")) in own
        and (named is not None or own[place][0].metrics.n_ood == find_recipe(name).count)
    }
    found = {name: (_means(rows[name], row.sets[name]), row.sets[name]) for name in row.sets if name in rows}
    for group, values in row.means.items():
        members = [_means(rows[name], values) for name in groups.get(group, ()) if name in rows]
        if members and len(members) == len(groups[group]):
            mean = {metric: fmean(each[metric] for each in members) for metric in members[0]}
            found[f"mean of {group}"] = mean, values
    return {name: pair for name, pair in found.items() if pair[0]}


def _other_id(run: Run, table: PublishedTable) -> Iterator[str]:
    benchmark = BENCHMARKS.get(table.benchmark or "")
    if benchmark is None:
        return
    wanted: dict[str, int | None] = {benchmark.id: find_recipe(benchmark.id).count}
    sets: Any = run.results.provenance.get("sets", {})
    shifted = {POOLED, *(name for name, entry in sets.items() if entry.get("group") == "csid")}
    own = {entry.set: entry.n for entry in run.results.id if entry.set not in shifted}
    if own != wanted:
        yield f"ID is {_listed(own)}, not {_listed(wanted)}"


def _listed(sizes: Mapping[str, int | None]) -> str:
    return ", ".join(f"{name} ({count:,} images)" for name, count in sizes.items()) or "nothing"


def _other_settings(what: str, wanted: Mapping[str, Any], recorded: Mapping[str, Any]) -> Iterator[str]:
    for name, value in wanted.items():
        own = _inside(recorded, name)
        if isinstance(value, dict) and set(value) == {"not"}:
            if _plain(own) == _plain(value["not"]):
                yield f"{what} has {name} = {own}"
        elif _plain(own) != _plain(value):
            yield f"{what} has {name} = {own}, not {value}"


def _inside(record: Any, name: str) -> Any:
    for part in name.split("."):
        record = record.get(part) if isinstance(record, dict) else None
    return record


def _means(rows: Iterable[ResultRow], metrics: Iterable[str]) -> dict[str, float]:
    """Return the mean of the comparable ones of some metrics over the seeds."""
    return {metric: fmean(getattr(row.metrics, metric) for row in rows) for metric in metrics if metric in METRICS}


def _plain(value: Any) -> Any:
    # CLIP's tokenizer lower-cases, so "The nice {}" and "the nice {}" are one prompt.
    return [text.lower() for text in value if isinstance(text, str)] if isinstance(value, list | tuple) else value


def _model(run: Run) -> str:
    encoder: Any = run.results.provenance.get("encoder", {})
    name, tag = encoder.get("name", ""), encoder.get("pretrained")
    return f"{name}/{tag}" if tag else str(name)


def _array(row: ResultRow) -> str:
    return label(row.score, row.variant)
