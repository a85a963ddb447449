"""The YAML files of published tables and of protocols, read field by field."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from mmood.errors import MmoodError
from mmood.files import Fields, parse_yaml
from mmood.published.model import GRADES, Convention, Model, Protocol, PublishedRow, PublishedTable, RunPlan, Values

_CONVENTIONS: dict[str, str] = {"id_pos": "fpr95_id_pos", "ood_pos": "fpr95_ood_pos", "unknown": "fpr95"}
_TOLERANCE: Values = {"auroc": 0.005, "fpr95": 0.02, "accuracy": 0.005}
_PAPER = frozenset({"method", "venue", "arxiv", "home", "differs", "tables"})
_TABLE = frozenset(
    {"title", "benchmark", "model", "fpr95", "columns", "grade", "read_in", "notes", "tolerance", "rows"}
)
_ROW = frozenset({"method", "fpr95", "protocol", "sets", "means", "accuracy"})
_RUN = frozenset({"commands", "sets", "seeds", "needs", "memory"})
_PROTOCOL = frozenset({"run", "scores", "module", "settings", "score_settings"})


def parse_paper(text: str, paper: str, protocols: Mapping[str, Protocol]) -> list[PublishedTable]:
    """Return the tables of a paper.

    Values stand in its file as printed, in per cent.

    Args:
        text: of its YAML file.
        paper: its name.
        protocols: that its rows may name.

    Raises:
        MmoodError: a key is unknown or missing, or a value is not what it must be.
    """
    what = f"The file of published tables '{paper}'"
    top = _fields(parse_yaml(text, what), what, _PAPER)
    parts = [top.text("method"), *(top.text(key) for key in ("venue", "home") if top.has(key))]
    source = ", ".join([*parts, *([f"arXiv {top.text('arxiv')}"] if top.has("arxiv") else [])])
    differs = top.texts("differs")
    return [
        _table(_fields(raw, f"{what}: {name}", _TABLE), paper, name, source, differs, protocols)
        for name, raw in top.mapping("tables").items()
    ]


def _table(
    fields: Fields, paper: str, name: str, source: str, differs: tuple[str, ...], protocols: Mapping[str, Protocol]
) -> PublishedTable:
    benchmark = fields.text("benchmark") if fields.has("benchmark") else None
    convention = _convention(fields, "unknown")
    columns = fields.texts("columns") if fields.has("columns") else None
    stated = fields.child("tolerance").raw if fields.has("tolerance") else {}
    return PublishedTable(
        paper=paper,
        name=name,
        title=fields.text("title") if fields.has("title") else f"Benchmark {benchmark}",
        source=source,
        benchmark=benchmark,
        model=fields.text("model"),
        grade=fields.one_of("grade", tuple(GRADES)),
        read_in=fields.text("read_in"),
        notes=fields.text("notes") if fields.has("notes") else "",
        differs=differs,
        tolerance={**_TOLERANCE, **{metric: _share(value, fields.where) for metric, value in stated.items()}},
        rows=tuple(_row(row, convention, columns, protocols) for row in fields.children("rows")),
    )


def _row(
    fields: Fields, convention: Convention, columns: tuple[str, ...] | None, protocols: Mapping[str, Protocol]
) -> PublishedRow:
    _only(fields, _ROW)
    own = _convention(fields, convention)
    heads = columns or ("auroc", _CONVENTIONS[own])
    protocol = fields.text("protocol") if fields.has("protocol") else None
    if protocol is not None and protocol not in protocols:
        raise MmoodError(f"{fields.where} has protocol = '{protocol}', which no protocol is called.")
    return PublishedRow(
        method=fields.text("method"),
        fpr95=own,
        protocol=None if protocol is None else protocols[protocol],
        sets=_values(fields, "sets", heads),
        means=_values(fields, "means", heads),
        accuracy=_share(fields.number("accuracy"), fields.where) if fields.has("accuracy") else None,
    )


def _values(fields: Fields, key: str, heads: tuple[str, ...]) -> dict[str, Values]:
    if not fields.has(key):
        return {}
    found: dict[str, Values] = {}
    for name, numbers in fields.mapping(key).items():
        if not isinstance(numbers, list) or not 1 <= len(numbers) <= len(heads):
            raise MmoodError(
                f"{fields.where} has {key}.{name} = {numbers!r:.40}; it must be 1 to {len(heads)} numbers."
            )
        pairs = zip(heads, numbers, strict=False)
        found[name] = {head: _share(number, fields.where) for head, number in pairs if number is not None}
    return found


def _share(number: object, where: str) -> float:
    if not isinstance(number, int | float) or not 0 < number < 100:
        raise MmoodError(f"{where} has the number {number!r:.40}; it must be a value in per cent.")
    return round(number / 100, 6)


def _convention(fields: Fields, default: Convention) -> Convention:
    return cast(Convention, fields.one_of("fpr95", tuple(_CONVENTIONS))) if fields.has("fpr95") else default


def parse_protocols(text: str) -> tuple[dict[str, Model], dict[str, RunPlan], dict[str, Protocol]]:
    """Return models, runs and protocols by name; MmoodError names the first key that is wrong."""
    what = "The file of protocols"
    top = _fields(parse_yaml(text, what), what, frozenset({"models", "runs", "protocols"}))
    models = {
        name: Model(name, fields.count("parameters"), fields.texts("same_as") if fields.has("same_as") else ())
        for name, fields in _children(top, "models", frozenset({"parameters", "same_as"}))
    }
    runs = {name: _run(name, fields) for name, fields in _children(top, "runs", _RUN)}
    protocols = {name: _protocol(name, fields) for name, fields in _children(top, "protocols", _PROTOCOL)}
    if odd := sorted({one.run for one in protocols.values()} - runs.keys()):
        raise MmoodError(f"{what} names the run '{odd[0]}', which it does not have.")
    return models, runs, protocols


def _run(name: str, fields: Fields) -> RunPlan:
    return RunPlan(
        name,
        fields.texts("commands"),
        fields.texts("sets") if fields.has("sets") else (),
        tuple(int(seed) for seed in fields.numbers("seeds")) if fields.has("seeds") else (),
        {flag: str(why) for flag, why in fields.mapping("needs").items()} if fields.has("needs") else {},
        fields.text("memory") if fields.has("memory") else "",
    )


def _protocol(name: str, fields: Fields) -> Protocol:
    settings, score_settings = (
        fields.mapping(key) if fields.has(key) else {} for key in ("settings", "score_settings")
    )
    return Protocol(name, fields.text("run"), fields.texts("scores"), fields.text("module"), settings, score_settings)


def _children(top: Fields, key: str, known: frozenset[str]) -> list[tuple[str, Fields]]:
    return [(name, _fields(raw, f"{top.where}: {name}", known)) for name, raw in top.mapping(key).items()]


def _fields(raw: Any, where: str, known: frozenset[str]) -> Fields:
    fields = Fields(raw, where)
    _only(fields, known)
    return fields


def _only(fields: Fields, known: frozenset[str]) -> None:
    if odd := sorted(str(key) for key in fields.raw if key not in known):
        raise MmoodError(f"{fields.where} has an unknown key '{odd[0]:.40}'; the keys are {', '.join(sorted(known))}.")
