"""The files of results in a run folder: each is written whole or not at all, and is checked when read."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from mmood.errors import MmoodError
from mmood.files import parse_json, read_limited, write_atomically
from mmood.metrics.functional import OoDMetrics, Rates
from mmood.results.model import SCHEMA, IdRow, MeanRow, Protocol, ResultRow, Results
from mmood.results.tables import to_csv, to_latex, to_markdown

Format = Literal["json", "csv", "md", "tex"]
FORMATS: tuple[Format, ...] = ("json", "csv", "md", "tex")


def to_json(results: Results) -> str:
    """Return the text of `results.json`: all numbers in full, in [0, 1], and no NaN."""
    return json.dumps(results.as_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write_results(folder: Path, results: Results, formats: Sequence[Format] = FORMATS) -> list[Path]:
    """Write `results.json`, `.csv`, `.md` and `.tex` into `folder` and return their paths.

    Raises:
        MmoodError: the folder cannot be written.
    """
    render: dict[Format, Callable[[Results], str]] = {
        "json": to_json,
        "csv": to_csv,
        "md": to_markdown,
        "tex": to_latex,
    }
    texts = {folder / f"results.{name}": render[name](results) for name in formats}  # all, before the first is written
    for path, text in texts.items():
        write_atomically(path, text.encode())
    return list(texts)


def read_results(path: Path) -> Results:
    """Return the results kept in `path`, a `results.json` or a run folder that holds one.

    Raises:
        MmoodError: there is no such file, it is of another schema, or a field is missing or impossible.
    """
    path = path / "results.json" if path.is_dir() else path
    if not path.is_file():
        raise MmoodError(f"There are no results at {path}; `mmood test` writes them.")
    raw = parse_json(read_limited(path, str(path)), str(path))
    top = _Fields(raw, str(path))
    schema = top.whole("schema")
    if schema != SCHEMA:
        raise MmoodError(f"{path} has schema {schema}; this version of mmood reads schema {SCHEMA}.")
    return Results(
        stage=top.text("stage"),
        provenance=_provenance(top),
        id=tuple(_id_row(fields) for fields in top.children("id")),
        rows=tuple(_row(fields) for fields in top.children("rows")),
        means=tuple(_mean(fields) for fields in top.children("means")),
        skipped=tuple(dict(sample.raw) for sample in top.children("skipped")) if "skipped" in raw else (),
        partial=raw.get("partial", False) is True,
    )


class _Fields:
    """A JSON object whose fields are read by name and type; every error says where it is."""

    def __init__(self, raw: object, where: str) -> None:
        if not isinstance(raw, dict):
            raise MmoodError(f"{where} is {_short(raw)}; it must be an object with named fields.")
        self.raw: Mapping[str, Any] = raw
        self.where = where

    def _value(self, name: str, right: Callable[[Any], bool], kind: str) -> Any:
        if name not in self.raw:
            raise MmoodError(f"{self.where} has no '{name}'; it must be {kind}.")
        value = self.raw[name]
        if not right(value):
            raise MmoodError(f"{self.where} has {name} = {_short(value)}; it must be {kind}.")
        return value

    def text(self, name: str) -> str:
        return str(self._value(name, lambda v: isinstance(v, str), "a text"))

    def text_or_null(self, name: str) -> str | None:
        return None if self.raw.get(name, "") is None else self.text(name)

    def whole(self, name: str) -> int:
        return int(self._value(name, lambda v: isinstance(v, int) and not isinstance(v, bool), "a whole number"))

    def count(self, name: str) -> int:
        right = "a whole number from 0 to 2^53"  # what JSON readers everywhere take
        return int(self._value(name, lambda v: type(v) is int and 0 <= v <= 2**53, right))

    def whole_or_null(self, name: str) -> int | None:
        return None if self.raw.get(name, "") is None else self.whole(name)

    def share(self, name: str) -> float:
        right = "a number from 0 to 1"  # NaN is none
        return float(self._value(name, lambda v: type(v) in (int, float) and 0 <= v <= 1, right))

    def share_or_null(self, name: str) -> float | None:
        return None if self.raw.get(name, "") is None else self.share(name)

    def protocol(self) -> Protocol:
        value: Protocol = self._value("protocol", lambda v: v in ("static", "test_time"), "'static' or 'test_time'")
        return value

    def mapping(self, name: str) -> dict[str, object]:
        return dict(self._value(name, lambda v: isinstance(v, dict), "an object with named fields"))

    def children(self, name: str) -> list[_Fields]:
        items = self._value(name, lambda v: isinstance(v, list), "a list")
        return [_Fields(item, f"{self.where}: {name}[{i}]") for i, item in enumerate(items)]


def _provenance(top: _Fields) -> dict[str, object]:
    """Return the record of the run; what a report looks into must have the form in which runs write it."""
    record = top.mapping("provenance")
    fields = _Fields(record, f"{top.where}: provenance")
    for name in record.keys() & {"encoder", "settings", "scores", "sets"}:
        fields.mapping(name)
    for name in record.keys() & {"scores", "sets"}:
        for entry in (of := _Fields(record[name], f"{fields.where}.{name}")).raw:
            of.mapping(entry)
    return record


def _id_row(fields: _Fields) -> IdRow:
    return IdRow(
        set=fields.text("set"),
        n=fields.count("n"),
        accuracy=fields.share_or_null("accuracy"),
        variant=fields.text_or_null("variant") if "variant" in fields.raw else None,
    )


def _row(fields: _Fields) -> ResultRow:
    return ResultRow(
        score=fields.text("score"),
        variant=fields.text_or_null("variant"),
        seed=fields.whole_or_null("seed"),
        protocol=fields.protocol(),
        set=fields.text("set"),
        group=fields.text("group"),
        metrics=OoDMetrics(
            n_id=fields.count("n_id"),
            n_ood=fields.count("n_ood"),
            auroc=fields.share("auroc"),
            aupr_id=fields.share("aupr_id"),
            aupr_ood=fields.share("aupr_ood"),
            fpr95_id_pos=fields.share("fpr95_id_pos"),
            fpr95_ood_pos=fields.share("fpr95_ood_pos"),
        ),
    )


def _mean(fields: _Fields) -> MeanRow:
    return MeanRow(
        score=fields.text("score"),
        variant=fields.text_or_null("variant"),
        protocol=fields.protocol(),
        group=fields.text("group"),
        rates=Rates(
            auroc=fields.share("auroc"),
            aupr_id=fields.share("aupr_id"),
            aupr_ood=fields.share("aupr_ood"),
            fpr95_id_pos=fields.share("fpr95_id_pos"),
            fpr95_ood_pos=fields.share("fpr95_ood_pos"),
        ),
    )


def _short(value: object) -> str:
    try:
        return f"{value!r:.40}"
    except ValueError:  # Python refuses to print a whole number of thousands of digits
        return "a number too long to print"
