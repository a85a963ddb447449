"""The table beside an index: what reports need of a sample and no batch carries, joined by key.

`samples.jsonl` has one line per sample in the order of the keys; `name` is the original class, of OoD images too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mmood.errors import MmoodError
from mmood.files import parse_json
from mmood.shards import locations

TABLE_FILE = "samples.jsonl"
MAX_TABLE_BYTES = 2**31
_LABEL = re.compile(r"-?[0-9]{1,9}")
_KINDS = {"key": int, "sample": str, "label": int | None, "name": str, "source": str, "file": str}


@dataclass(frozen=True, slots=True)
class SampleRow:
    """One sample.

    Attributes:
        key: position in the set.
        sample: name in the shard.
        label: class index in `cls`, None without one. An OoD set may have labels of its own: they are its own.
        name: original class in words, "" if unknown.
        source: where the image comes from.
        file: path that it was packed from, "" if unknown.
    """

    key: int
    sample: str
    label: int | None = None
    name: str = ""
    source: str = ""
    file: str = ""


def row_of(key: int, sample: str, cls: bytes | None, facts: Mapping[str, str]) -> SampleRow:
    """Return the row that a sample's label and facts tell; ValueError if `cls` is no integer."""
    return SampleRow(key, sample, None if cls is None else _label(cls), **facts)


def facts_of(member: bytes | None) -> dict[str, str]:
    """Return what the json member of a sample says of its image: name, source, file; "" where it says nothing.

    Raises:
        MmoodError: it is no JSON object.
    """
    found = parse_json(member, "It") if member else {}
    if not isinstance(found, dict):
        raise MmoodError(f"It is not an object but a {type(found).__name__}.")
    texts = {field: found.get(field, "") for field in ("name", "source", "file")}
    return {field: text if isinstance(text, str) else "" for field, text in texts.items()}


def dump_rows(rows: Iterable[SampleRow]) -> bytes:
    """Return the content of `samples.jsonl`."""
    return "".join(json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in rows).encode()


def load_table(location: str, count: int) -> list[SampleRow]:
    """Return the rows of a set, row i for key i.

    Args:
        location: of the table.
        count: number of samples of the set.

    Raises:
        MmoodError: the table is missing, unreadable, or does not have one row per sample in the order of the keys.
    """
    try:
        content = locations.read_bytes(location, MAX_TABLE_BYTES)
    except OSError as error:
        raise MmoodError(f"The table {location} cannot be read: {error}.") from error
    lines = enumerate(content.splitlines(), 1)
    rows = [_row(parse_json(line, where), where) for number, line in lines for where in [f"{location}, line {number},"]]
    if [row.key for row in rows] != list(range(count)):
        raise MmoodError(f"The table {location} does not have one row for each of the {count} keys in order.")
    return rows


def _row(document: Any, where: str) -> SampleRow:
    if not isinstance(document, dict) or not {"key", "sample"} <= document.keys() <= _KINDS.keys():
        raise MmoodError(f"{where} must have key and sample, and may have {', '.join([*_KINDS][2:])}.")
    for name, value in document.items():
        if isinstance(value, bool) or not isinstance(value, _KINDS[name]):
            raise MmoodError(f"{where} has {name} = {value!r:.40}, which has the wrong type.")
    return SampleRow(**document)


def _label(content: bytes) -> int:
    text = content.decode("ascii", errors="replace").strip()
    if not _LABEL.fullmatch(text):
        raise ValueError(f"its label {text[:32]!r} is not a class index")
    return int(text)
