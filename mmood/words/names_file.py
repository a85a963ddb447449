"""Names files: outlier names that were proposed for a list of ID classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Self, cast, final

from mmood.errors import MmoodError
from mmood.files import Fields
from mmood.words.corpus import clean_word
from mmood.words.proposed import SCHEMA, Origin, check_hash, checked_fields, origin_of, rows_hash, write_rows

FORMAT = "mmood names"

Group = Literal["near", "far", "fine"]
GROUPS: tuple[Group, ...] = ("near", "far", "fine")

LONGEST = 64
"""Characters of a name, at most."""


@final
@dataclass(frozen=True)
class ProposedName:
    """A name that no ID class has.

    Attributes:
        name: in the spelling of `clean_word`.
        group: near (looks like an ID class), far (looks like none), or fine (a sibling of all ID classes).
        source: the ID class, category or supersense that it was proposed for; "" for all classes together.
        answer: the first 16 digits of the key of the answer that it was read from; "" for none.
    """

    name: str
    group: Group
    source: str = ""
    answer: str = ""

    def to_row(self) -> dict[str, str]:
        """Return the name as plain data, without what is empty."""
        row = {"name": self.name, "group": self.group, "source": self.source, "answer": self.answer}
        return {key: value for key, value in row.items() if value}


@final
@dataclass(frozen=True)
class NamesFile:
    """Outlier names in order, each once.

    Attributes:
        origin: how they were proposed.
        names: the names.
        dropped: reason -> names that were proposed and not taken.
    """

    origin: Origin
    names: tuple[ProposedName, ...]
    dropped: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def content_hash(self) -> str:
        """The sha256 (hex) of the names in order, with group, source and answer of each."""
        return rows_hash([entry.to_row() for entry in self.names])

    @property
    def words(self) -> tuple[str, ...]:
        """The names alone."""
        return tuple(entry.name for entry in self.names)

    def only(self, group: Group) -> Self:
        """Return the names of a group."""
        return replace(self, names=tuple(entry for entry in self.names if entry.group == group), dropped={})

    def history(self) -> dict[str, object]:
        """Return where the names come from, as provenance records it."""
        return {**self.origin.to_document(), "names_sha256": self.content_hash}

    def save(self, path: str | Path) -> None:
        """Write the file as JSON, a name on each line, atomically."""
        head = {
            "format": FORMAT,
            "schema": SCHEMA,
            "hash": self.content_hash,
            "count": len(self.names),
            "groups": dict(Counter(entry.group for entry in self.names)),
            **self.origin.to_document(),
            "dropped": {reason: list(names) for reason, names in self.dropped.items()},
        }
        write_rows(path, head, "names", [entry.to_row() for entry in self.names])

    @classmethod
    def from_document(cls, document: Any, where: str) -> Self:
        """Return the names of plain data.

        Raises:
            MmoodError: the data has another form, a name is none, or the hash is not that of the names.
        """
        fields = checked_fields(document, FORMAT, where)
        names = tuple(map(_name_of, fields.children("names")))
        if len({entry.name for entry in names}) < len(names):
            raise MmoodError(f"{where} has a name twice.")
        dropped = fields.child("dropped")
        loaded = cls(origin_of(fields), names, {reason: dropped.texts(reason) for reason in dropped.raw})
        check_hash(fields, loaded.content_hash)
        return loaded


def is_names_file(document: object) -> bool:
    """Return whether a document says that it is a names file."""
    return isinstance(document, dict) and document.get("format") == FORMAT


def _name_of(fields: Fields) -> ProposedName:
    name = fields.value("name", _is_name, f"a printable name in lower case of 1 to {LONGEST} characters")
    group = cast(Group, fields.one_of("group", GROUPS))
    source, answer = (fields.text(key) if fields.has(key) else "" for key in ("source", "answer"))
    return ProposedName(name, group, source, answer)


def _is_name(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= LONGEST and value.isprintable() and clean_word(value) == value
