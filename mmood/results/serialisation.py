"""The files of results in a run folder: each is written whole or not at all, and is checked when read."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from mmood.errors import MmoodError
from mmood.files import parse_json, read_limited, write_atomically
from mmood.files.fields import Fields
from mmood.metrics.functional import OoDMetrics, Rates
from mmood.results.audit import REASONS, Audit, AuditedImage, AuditedSet
from mmood.results.model import SCHEMA, IdRow, MeanRow, Overlap, Protocol, ResultRow, Results
from mmood.results.tables import to_csv, to_latex, to_markdown
from mmood.runs.identity import RUN_ID

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
    top = Fields(raw, str(path))
    schema = top.whole("schema")
    if schema != SCHEMA:
        raise MmoodError(f"{path} has schema {schema}; this version of mmood reads schema {SCHEMA}.")
    return Results(
        run=_run(top) if "run" in raw else None,
        stage=top.text("stage"),
        provenance=_provenance(top),
        id=tuple(_id_row(fields) for fields in top.children("id")),
        rows=tuple(_row(fields) for fields in top.children("rows")),
        means=tuple(_mean(fields) for fields in top.children("means")),
        skipped=tuple(dict(sample.raw) for sample in top.children("skipped")) if "skipped" in raw else (),
        overlap=tuple(_overlap(fields) for fields in top.children("overlap")) if "overlap" in raw else (),
        audit=_audit(top.child("audit")) if "audit" in raw else None,
        partial=raw.get("partial", False) is True,
        files={name: str(value) for name, value in top.mapping("files").items()} if "files" in raw else {},
    )


def _provenance(top: Fields) -> dict[str, object]:
    """Return the record of the run; what a report looks into must have the form in which runs write it."""
    record = top.mapping("provenance")
    fields = Fields(record, f"{top.where}: provenance")
    for name in record.keys() & {"encoder", "settings", "scores", "sets"}:
        fields.mapping(name)
    for name in record.keys() & {"scores", "sets"}:
        for entry in (of := Fields(record[name], f"{fields.where}.{name}")).raw:
            of.mapping(entry)
    return record


def _run(top: Fields) -> str:
    right = "16 hexadecimal digits"
    return str(top.value("run", lambda v: isinstance(v, str) and bool(RUN_ID.fullmatch(v)), right))


def _id_row(fields: Fields) -> IdRow:
    return IdRow(
        set=fields.text("set"),
        n=fields.count("n"),
        accuracy=fields.share_or_null("accuracy"),
        variant=fields.text_or_null("variant") if "variant" in fields.raw else None,
    )


def _overlap(fields: Fields) -> Overlap:
    return Overlap(
        set=fields.text("set"),
        id_set=fields.text("id_set"),
        n=fields.count("n"),
        copies=_count_or_null(fields, "copies"),
        reason=fields.text_or_null("reason"),
        trained_on="trained_on" in fields.raw and fields.flag("trained_on"),
    )


def _audit(fields: Fields) -> Audit:
    return Audit(
        cosine=fields.share("cosine"),
        index_sha256={name: str(value) for name, value in fields.mapping("index_sha256").items()},
        sets=tuple(
            AuditedSet(
                set=entry.text("set"),
                n=entry.count("n"),
                near_copies=entry.count("near_copies"),
                class_name=_count_or_null(entry, "class_name"),
                training_image=_count_or_null(entry, "training_image"),
            )
            for entry in fields.children("sets")
        ),
        images=tuple(_audited_image(entry) for entry in fields.children("images")),
    )


def _audited_image(fields: Fields) -> AuditedImage:
    right = f"a list of {', '.join(REASONS)}"
    return AuditedImage(
        set=fields.text("set"),
        key=fields.count("key"),
        reasons=tuple(
            fields.value("reasons", lambda v: isinstance(v, list) and all(r in [*REASONS] for r in v), right)
        ),
        cosine=fields.number("cosine"),
        id_set=fields.text("id_set"),
        id_key=fields.count("id_key"),
        id_class=fields.text("id_class"),
    )


def _count_or_null(fields: Fields, name: str) -> int | None:
    return None if fields.raw.get(name, "") is None else fields.count(name)


def _row(fields: Fields) -> ResultRow:
    return ResultRow(
        score=fields.text("score"),
        variant=fields.text_or_null("variant"),
        seed=fields.whole_or_null("seed"),
        protocol=_protocol(fields),
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


def _mean(fields: Fields) -> MeanRow:
    return MeanRow(
        score=fields.text("score"),
        variant=fields.text_or_null("variant"),
        protocol=_protocol(fields),
        group=fields.text("group"),
        rates=Rates(
            auroc=fields.share("auroc"),
            aupr_id=fields.share("aupr_id"),
            aupr_ood=fields.share("aupr_ood"),
            fpr95_id_pos=fields.share("fpr95_id_pos"),
            fpr95_ood_pos=fields.share("fpr95_ood_pos"),
        ),
    )


def _protocol(fields: Fields) -> Protocol:
    protocol: Protocol = fields.value("protocol", lambda v: v in ("static", "test_time"), "'static' or 'test_time'")
    return protocol
