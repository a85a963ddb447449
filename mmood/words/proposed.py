"""Files of what was proposed for a list of ID classes: how they say where their content comes from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

from mmood.classes.names import class_names_hash
from mmood.errors import MmoodError
from mmood.files import Fields, parse_json, read_limited, write_atomically

SCHEMA = 1


@final
@dataclass(frozen=True)
class Origin:
    """Where the content of a file comes from.

    Attributes:
        method: that proposed it, such as "eoe-near".
        classes: number of the ID classes.
        class_names_sha256: of their names, see `class_names_hash`.
        proposed_with: model, version of its prompts, parameters of its requests, settings of the method.
    """

    method: str
    classes: int
    class_names_sha256: str
    proposed_with: Mapping[str, object] = field(default_factory=dict)

    def to_document(self) -> dict[str, object]:
        """Return the origin as plain data, as files and provenance record it."""
        return {
            "method": self.method,
            "classes": {"count": self.classes, "sha256": self.class_names_sha256},
            "proposed_with": dict(self.proposed_with),
        }


def origin_for(method: str, class_names: Sequence[str], proposed_with: Mapping[str, object]) -> Origin:
    """Return the origin of what a method proposes for these classes."""
    return Origin(method, len(class_names), class_names_hash(class_names), proposed_with)


def origin_of(document: Fields) -> Origin:
    """Return the origin that a file records; MmoodError if it records none."""
    classes = document.child("classes")
    return Origin(
        document.text("method"), classes.count("count"), classes.text("sha256"), document.mapping("proposed_with")
    )


def rows_hash(rows: Sequence[object]) -> str:
    """Return the sha256 (hex) of rows of plain data in order."""
    return hashlib.sha256(json.dumps(list(rows), sort_keys=True).encode()).hexdigest()


def write_rows(path: str | Path, head: Mapping[str, object], name: str, rows: Sequence[object]) -> None:
    """Write a JSON object atomically: the fields of its head, and then a list of rows, each on its line."""
    written = json.dumps(head, indent=1, ensure_ascii=False).removesuffix("\n}")
    lines = ",\n".join(f"  {json.dumps(row, ensure_ascii=False)}" for row in rows)
    write_atomically(Path(path), f'{written},\n "{name}": [\n{lines}\n ]\n}}\n'.encode())


def checked_fields(document: Any, form: str, where: str) -> Fields:
    """Return the fields of a file of a form.

    Raises:
        MmoodError: it has another form or schema.
    """
    fields = Fields(document, where)
    if fields.raw.get("format") != form:
        raise MmoodError(f"{where} has no field `format` of '{form}', so it is another kind of file.")
    if fields.whole("schema") != SCHEMA:
        raise MmoodError(f"{where} has the schema {fields.whole('schema')}; this version reads {SCHEMA}.")
    return fields


def check_hash(fields: Fields, found: str) -> None:
    """Raise MmoodError unless a file records the hash of what is in it."""
    recorded = fields.text("hash")
    if recorded != found:
        raise MmoodError(
            f"{fields.where} has the hash {found[:12]}, but records {recorded[:12]}: it was edited or truncated. "
            "Propose it again; names that you chose yourself belong into a plain text file, one a line."
        )


def read_document(path: str | Path, what: str) -> Any:
    """Return the JSON in a file; `what` begins the sentence of an error."""
    return parse_json(read_limited(path, what), what)
