"""The file of decisions: CSV, JSON lines or Parquet, a row for each image in their order."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from mmood.detector.decisions import FIELDS
from mmood.detector.scorer import batched
from mmood.errors import MmoodError
from mmood.files import parse_json, whole_file
from mmood.output.escaping import for_csv

Row = Mapping[str, object]
FORMATS = (".csv", ".jsonl", ".parquet")
FDR = "fdr_ood"
_GROUP = 2**16
_LONGEST_LINE = 2**20


@dataclass(frozen=True)
class Table:
    """A file of decisions; its extension says the format.

    Attributes:
        path: of the file.
    """

    path: Path

    def __post_init__(self) -> None:
        if self.path.suffix not in FORMATS:
            raise MmoodError(
                f"{self.path} is not a file of decisions: its extension must be one of {', '.join(FORMATS)}."
            )
        if self.path.suffix == ".parquet" and importlib.util.find_spec("pyarrow") is None:
            raise MmoodError("A .parquet file needs pyarrow, which is not installed; pip install 'mmood[parquet]'.")

    @property
    def embeddings(self) -> Path:
        """The file of embeddings beside it, in numpy's format."""
        return self.path.with_name(f"{self.path.name}.embeddings.npy")

    def write(self, rows: Iterable[Row], discoveries: Collection[int] | None) -> None:
        """Write all rows, whole or not at all.

        Args:
            rows: `input` and the fields of a decision.
            discoveries: numbers of the rows that are true in the column `fdr_ood`; None for no such column.
        """
        fields = ["input", *FIELDS, *([] if discoveries is None else [FDR])]
        writers: dict[str, Callable[[BinaryIO, list[str], Iterable[Row]], None]] = {
            ".csv": _write_csv,
            ".jsonl": _write_lines,
            ".parquet": _write_parquet,
        }
        with whole_file(self.path) as file:
            writers[self.path.suffix](file, fields, _flagged(rows, discoveries))


def read_rows(path: Path) -> Iterator[dict[str, object]]:
    """Yield the rows of a file of decisions, one in memory at a time; texts of a CSV file as the values they mean.

    Raises:
        MmoodError: there is no such file, or it is not a file of decisions.
    """
    table = Table(path)
    if not path.is_file():
        raise MmoodError(f"There are no decisions at {path}; `mmood detect` writes them.")
    readers = {".csv": _read_csv, ".jsonl": _read_lines, ".parquet": _read_parquet}
    for number, row in enumerate(readers[table.path.suffix](path), 1):
        if not row.keys() >= {"input", "status", "score", "p_value", "accepted"}:
            raise MmoodError(
                f"{path}, row {number}, is not a decision of `mmood detect`: it has {', '.join(row)[:80]}."
            )
        yield row


def counts(path: Path) -> str:
    """Return a sentence on how many images were accepted, rejected and broken."""
    tally = {"accepted": 0, "rejected": 0, "broken": 0}
    flagged: int | None = None
    for row in read_rows(path):
        tally["broken" if row["status"] != "ok" else "accepted" if row["accepted"] else "rejected"] += 1
        if FDR in row:
            flagged = (flagged or 0) + (row[FDR] is True)
    said = f"{tally['accepted']} accepted, {tally['rejected']} rejected, {tally['broken']} broken"
    return f"{said}." if flagged is None else f"{said}; {flagged} marked as OoD by Benjamini-Hochberg."


def _flagged(rows: Iterable[Row], discoveries: Collection[int] | None) -> Iterator[Row]:
    for number, row in enumerate(rows):
        flag = {} if discoveries is None else {FDR: number in discoveries if row["status"] == "ok" else None}
        yield {**row, **flag}


def _write_csv(file: BinaryIO, fields: list[str], rows: Iterable[Row]) -> None:
    text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
    writer = csv.DictWriter(text, fields, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _as_text(value) for name, value in row.items()})
    text.detach()


def _as_text(value: object) -> object:
    if isinstance(value, str):
        return for_csv(value)
    return str(value).lower() if isinstance(value, bool) else value


def _write_lines(file: BinaryIO, fields: list[str], rows: Iterable[Row]) -> None:
    for row in rows:
        file.write(json.dumps({name: row[name] for name in fields}, ensure_ascii=False).encode() + b"\n")


def _write_parquet(file: BinaryIO, fields: list[str], rows: Iterable[Row]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    kinds = {"accepted": pa.bool_(), FDR: pa.bool_(), "score": pa.float32(), "p_value": pa.float64()}
    kinds["probability"] = pa.float64()
    schema = pa.schema([(name, kinds.get(name, pa.string())) for name in fields])
    with parquet.ParquetWriter(file, schema) as writer:
        for group in batched(rows, _GROUP):
            writer.write_table(pa.Table.from_pylist([dict(row) for row in group], schema))


def _read_csv(path: Path) -> Iterator[dict[str, object]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                yield {name: _value(name, text) for name, text in row.items() if isinstance(name, str)}
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        raise MmoodError(f"{path} is not a table of decisions: {error!s:.200}.") from error


def _value(name: str, text: str) -> object:
    try:
        if name in ("accepted", FDR):
            return {"true": True, "false": False, "": None}[text]
        if name in ("score", "p_value", "probability"):
            return float(text) if text else None
    except (KeyError, ValueError):
        raise ValueError(f"it has {name} = {text!r:.40}") from None
    return text


def _read_lines(path: Path) -> Iterator[dict[str, object]]:
    with path.open("rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(_LONGEST_LINE), b""), 1):
            row = parse_json(line, f"{path}, line {number},")
            if not isinstance(row, dict):
                raise MmoodError(f"{path}, line {number}, is not a decision.")
            yield row


def _read_parquet(path: Path) -> Iterator[dict[str, object]]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            for group in file.iter_batches(_GROUP):
                yield from group.to_pylist()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise MmoodError(f"{path} is not a Parquet file: {' '.join(str(error).split())[:200]}.") from error
