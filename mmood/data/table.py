"""The table beside an index: what reports need of a sample and no batch carries, joined by key.

`samples.jsonl` has one line per sample in the order of the keys; `name` is the original class, of OoD images too.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from mmood.data import locations
from mmood.data.index import SetIndex
from mmood.errors import MmoodError

TABLE_FILE = "samples.jsonl"


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


def row_of(key: int, sample: str, cls: bytes | None, json_member: bytes | None) -> SampleRow:
    """Return the row that a sample's members tell; ValueError if `cls` is no integer or `json` no object."""
    facts = json.loads(json_member) if json_member else {}
    if not isinstance(facts, dict):
        raise ValueError("its json member is not an object")
    label = None if cls is None else int(cls)
    texts = {field: facts.get(field, "") for field in ("name", "source", "file")}
    return SampleRow(
        key, sample, label, **{field: text if isinstance(text, str) else "" for field, text in texts.items()}
    )


def dump_rows(rows: Iterable[SampleRow]) -> bytes:
    """Return the content of `samples.jsonl`."""
    return "".join(json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in rows).encode()


def load_table(index: SetIndex) -> list[SampleRow]:
    """Return the rows of a set, row i for key i.

    Raises:
        MmoodError: the table is missing, unreadable, or does not have one row per sample in the order of the keys.
    """
    location = locations.join(index.root, f"{index.name}/{TABLE_FILE}")
    try:
        rows = [SampleRow(**json.loads(line)) for line in locations.read_bytes(location).splitlines()]
    except (OSError, ValueError, TypeError) as error:
        raise MmoodError(f"The table {location} cannot be read: {error}.") from error
    if [row.key for row in rows] != list(range(index.count)):
        raise MmoodError(f"The table {location} does not have one row for each of the {index.count} keys in order.")
    return rows
