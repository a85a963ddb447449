"""Lists of negative labels as artefacts: readable files that carry their own hash and history."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

import torch
from jaxtyping import Float
from torch import Tensor

from mmood.encoders.prompts import check_templates, fill
from mmood.errors import MmoodError, unknown
from mmood.files import parse_json, read_limited, write_atomically
from mmood.words.corpus import clean_word, read_lines
from mmood.words.embedding import EncodeText, embed_words

Kind = Literal["noun", "adjective"]
KINDS: tuple[Kind, ...] = ("noun", "adjective")
SCHEMA = 1


@dataclass(frozen=True)
class Templates:
    """Prompts in which `{}` stands for the word; several per kind are averaged.

    Attributes:
        id: prompts of the ID class names.
        noun: prompts of nouns.
        adjective: prompts of adjectives.
        normalise_first: average the unit-norm embeddings of a word's prompts; off, average them as they are (CSP).
    """

    id: tuple[str, ...] = ("the nice {}",)
    noun: tuple[str, ...] = ("the nice {}",)
    adjective: tuple[str, ...] = ("This is a {} photo",)
    normalise_first: bool = True

    def of(self, kind: Kind) -> tuple[str, ...]:
        """Return the prompts of a kind of words."""
        return self.noun if kind == "noun" else self.adjective


@dataclass(frozen=True)
class NegativePart:
    """The negatives of one kind.

    Attributes:
        kind: "noun" or "adjective".
        templates: the prompts of each word.
        words: the words, best negatives first.
        similarity: how near each word is to the ID classes, in the sense of the criterion, rounded to 6 decimals; empty
            if unknown.
    """

    kind: Kind
    templates: tuple[str, ...]
    words: tuple[str, ...]
    similarity: tuple[float, ...] = ()


@dataclass(frozen=True)
class NegativeList:
    """Negative labels in order, with what it takes to encode them and to know where they come from.

    Attributes:
        parts: one or two kinds of words; the order of all words is that of the parts.
        id_templates: the prompts of the ID class names that belong to the list.
        mined_with: model, class names, corpus and criterion; for a list that came as plain text, its file.
        normalise_first: how the prompts of a word are averaged, see `Templates`.
    """

    parts: tuple[NegativePart, ...]
    id_templates: tuple[str, ...]
    mined_with: Mapping[str, object] = field(default_factory=dict)
    normalise_first: bool = True

    def __len__(self) -> int:
        return sum(len(part.words) for part in self.parts)

    @property
    def words(self) -> tuple[str, ...]:
        """All words in order."""
        return tuple(word for part in self.parts for word in part.words)

    @property
    def prompts(self) -> list[tuple[str, ...]]:
        """The whole texts to encode, per word."""
        return [tuple(fill(t, word) for t in part.templates) for part in self.parts for word in part.words]

    @property
    def content_hash(self) -> str:
        """The sha256 (hex) of words and prompts in order, whatever file or criterion they come from."""
        content = [self.normalise_first, *([part.kind, part.templates, part.words] for part in self.parts)]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def embed(self, encode_text: EncodeText) -> Float[Tensor, "negatives dim"]:
        """Return the unit-norm embeddings of the words in order, with the encoder's weights of this moment."""
        return torch.cat(
            [
                embed_words(encode_text, part.words, part.templates, self.normalise_first)
                for part in self.parts
                if part.words
            ]
        )

    def embed_id_names(self, encode_text: EncodeText, class_names: Sequence[str]) -> Float[Tensor, "classes dim"]:
        """Return the unit-norm embeddings of the ID names in the list's own prompts."""
        return embed_words(encode_text, class_names, self.id_templates, self.normalise_first)

    def to_document(self) -> dict[str, Any]:
        """Return the list as plain data, as it stands in its file."""
        return {
            "schema": SCHEMA,
            "hash": self.content_hash,
            "count": len(self),
            "mined_with": dict(self.mined_with),
            "id_templates": list(self.id_templates),
            "normalise_first": self.normalise_first,
            "parts": [_part_document(part) for part in self.parts],
        }

    @classmethod
    def from_document(cls, document: Any, where: str) -> Self:
        """Return the list of plain data.

        Raises:
            MmoodError: the data has another form, or its hash is not that of its words; `where` names its place.
        """
        schema = _entry(document, "schema", int, where)
        if schema != SCHEMA:
            raise MmoodError(f"{where} has the schema {schema}; this version reads {SCHEMA}.")
        parts = tuple(_part_of(part, where) for part in _entry(document, "parts", list, where))
        templates = _templates(document, "id_templates", where)
        mined_with = dict(_entry(document, "mined_with", Mapping, where))
        loaded = cls(parts, templates, mined_with, _entry(document, "normalise_first", bool, where))
        recorded = _entry(document, "hash", str, where)
        if recorded != loaded.content_hash:
            raise MmoodError(
                f"The words of {where} have the hash {loaded.content_hash[:12]}, but the file records "
                f"{recorded[:12]}: it was edited or cut short. Mine it again, or give the words as plain text."
            )
        return loaded

    def save(self, path: str | Path) -> None:
        """Write the list as readable JSON, at once or not at all."""
        text = json.dumps(self.to_document(), indent=1, ensure_ascii=False)
        write_atomically(Path(path), (text + "\n").encode())


def load_negatives(path: str | Path, templates: Templates | None = None) -> NegativeList:
    """Return the list in a file: mmood's own (`.json`), or plain text.

    Plain text has one word a line, with a tab and its kind (`noun` or `adjective`) behind it if it is no noun; empty
    lines and those that begin with "# " do not count, words are cleaned (`clean_word`) and a repeated word stays once.
    Whole prompts are such a list with the template "{}".

    Args:
        path: the file.
        templates: prompts for plain text; mmood's own files carry theirs.

    Raises:
        MmoodError: a missing or malformed file, or one without words.
    """
    if Path(path).suffix == ".json":
        what = f"The list of negative labels '{path}'"
        document = parse_json(read_limited(path, what), what)
        loaded = NegativeList.from_document(document, f"'{path}'")
    else:
        lines = read_lines(path, "list of negative labels")
        loaded = _parse_text(lines, Path(path), templates or Templates())
    if not len(loaded):
        raise MmoodError(f"The list of negative labels '{path}' holds no word.")
    return loaded


def _parse_text(lines: Sequence[str], path: Path, templates: Templates) -> NegativeList:
    words: dict[Kind, dict[str, None]] = {}
    for number, line in enumerate(lines, start=1):
        text, _, kind = line.partition("\t")
        if (word := clean_word(text)) and not line.startswith("# "):
            words.setdefault(_kind(kind.strip() or "noun", f"'{path}', line {number}"), {})[word] = None
    parts = tuple(NegativePart(kind, templates.of(kind), tuple(members)) for kind, members in words.items())
    for part in parts:
        check_templates(part.templates)
    return NegativeList(parts, templates.id, {"file": path.name}, templates.normalise_first)


def _kind(name: str, where: str) -> Kind:
    for kind in KINDS:
        if name == kind:
            return kind
    raise unknown(f"kind of words (in {where})", name, KINDS)


def _part_document(part: NegativePart) -> dict[str, Any]:
    words = dict(zip(part.words, part.similarity, strict=True)) if part.similarity else list(part.words)
    return {"kind": part.kind, "templates": list(part.templates), "words": words}


def _part_of(document: Any, where: str) -> NegativePart:
    kind = _kind(_entry(document, "kind", str, where), where)
    words = _entry(document, "words", (list, dict), where)
    similarity = tuple(words.values()) if isinstance(words, dict) else ()
    if not all(isinstance(word, str) for word in words):
        raise MmoodError(f"{where} has something else than texts among its words of kind '{kind}'.")
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in similarity):
        raise MmoodError(f"{where} has something else than numbers as similarity of its words of kind '{kind}'.")
    return NegativePart(kind, _templates(document, "templates", where), tuple(words), similarity)


def _templates(document: Any, name: str, where: str) -> tuple[str, ...]:
    templates = _entry(document, name, list, where)
    if not all(isinstance(template, str) for template in templates):
        raise MmoodError(f"{where} has something else than texts in '{name}'.")
    check_templates(templates)
    return tuple(templates)


def _entry(document: Any, name: str, kind: type | tuple[type, ...], where: str) -> Any:
    value = document.get(name) if isinstance(document, Mapping) else None
    if not isinstance(value, kind):
        raise MmoodError(f"{where} is not a list of negative labels: its entry '{name}' is {value!r:.40}.")
    return value
