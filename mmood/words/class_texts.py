"""Files of class texts: for each ID class, sentences that describe it and sentences that describe what it is not.

PNPS (arXiv 2511.10923) starts its prompts from such texts, and prompt learning may take them. In the file:

    {"format": "mmood class texts", "schema": 1, "hash": "...", "method": "pnps",
     "classes": {...}, "proposed_with": {...},
     "texts": [{"class": "tench", "positive": ["a plump olive fish ..."], "negative": ["a goldfish ..."]}, ...]}

A positive text describes what images of the class show; a negative one what images show that are taken for the class,
but are none. Every class has at least one of each kind; the number may differ between classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, final

from mmood.errors import MmoodError
from mmood.files import Fields
from mmood.words.proposed import (
    SCHEMA,
    Origin,
    check_hash,
    checked_fields,
    origin_of,
    read_document,
    rows_hash,
    write_rows,
)

FORMAT = "mmood class texts"

LONGEST = 300
"""Characters of a text, at most; text towers read about as many."""


@final
@dataclass(frozen=True)
class ClassTexts:
    """The texts of one ID class.

    Attributes:
        class_name: its name.
        positive: what its images show.
        negative: what images show that resemble it.
        answer: the first 16 digits of the key of the answer that they were read from; "" for none.
    """

    class_name: str
    positive: tuple[str, ...]
    negative: tuple[str, ...]
    answer: str = ""

    def to_row(self) -> dict[str, object]:
        """Return the texts as plain data."""
        row = {"class": self.class_name, "positive": list(self.positive), "negative": list(self.negative)}
        return {**row, "answer": self.answer} if self.answer else dict(row)


@final
@dataclass(frozen=True)
class TextsFile:
    """The texts of all ID classes, in their order.

    Attributes:
        origin: how they were proposed.
        texts: of each class.
    """

    origin: Origin
    texts: tuple[ClassTexts, ...]

    @property
    def content_hash(self) -> str:
        """The sha256 (hex) of classes and texts in order."""
        return rows_hash([entry.to_row() for entry in self.texts])

    def save(self, path: str | Path) -> None:
        """Write the file as JSON, a class on each line, atomically."""
        head = {"format": FORMAT, "schema": SCHEMA, "hash": self.content_hash, **self.origin.to_document()}
        write_rows(path, head, "texts", [entry.to_row() for entry in self.texts])

    @classmethod
    def from_document(cls, document: Any, where: str) -> Self:
        """Return the texts of plain data; MmoodError if it has another form or another hash than it records."""
        fields = checked_fields(document, FORMAT, where)
        loaded = cls(origin_of(fields), tuple(map(_texts_of, fields.children("texts"))))
        check_hash(fields, loaded.content_hash)
        return loaded


def load_class_texts(path: str | Path, class_names: Sequence[str]) -> TextsFile:
    """Return the texts in a file for these classes, in the order of their labels.

    Args:
        path: the file.
        class_names: the ID classes; one that occurs twice has the same texts twice.

    Raises:
        MmoodError: the file is malformed, or lacks a class.
    """
    where = f"The class texts '{path}'"
    loaded = TextsFile.from_document(read_document(path, where), where)
    known = {entry.class_name: entry for entry in loaded.texts}
    missing = [name for name in class_names if name not in known]
    if missing:
        raise MmoodError(
            f"{where} have none for {len(missing)} of the {len(class_names)} classes, such as '{missing[0]}'."
        )
    return TextsFile(loaded.origin, tuple(known[name] for name in class_names))


def _texts_of(fields: Fields) -> ClassTexts:
    kind = f"a list of 1 or more printable texts of at most {LONGEST} characters"
    positive, negative = (tuple(fields.value(key, _are_texts, kind)) for key in ("positive", "negative"))
    return ClassTexts(fields.text("class"), positive, negative, fields.text("answer") if fields.has("answer") else "")


def _are_texts(value: object) -> bool:
    return isinstance(value, list) and len(value) > 0 and all(map(_is_text, value))


def _is_text(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= LONGEST and value.isprintable()
