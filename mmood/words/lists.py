"""Lists of negative labels as artefacts: readable files that carry their own hash and history."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from jaxtyping import Float
from numpy.lib import format as npy
from torch import Tensor

from mmood.encoders.prompts import check_templates, fill
from mmood.errors import MmoodError, unknown
from mmood.files import is_file, parse_json, read_limited, user_path, write_atomically
from mmood.words.corpus import clean_word, read_lines
from mmood.words.embedding import EncodeText, embed_words
from mmood.words.names_file import NamesFile, is_names_file
from mmood.words.shipped import SHIPPED, is_shipped, load_shipped
from mmood.words.templates import KINDS, Kind, Templates
from mmood.words.whole_prompts import without_prompts

SCHEMA = 1


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
        mined_with: model, class names, corpus and criterion; for a list that came as plain text, its file; for a names
            file, how its names were proposed.
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
                f"{recorded[:12]}: it was edited or truncated. Mine it again, or give the negative labels as a plain "
                "text file."
            )
        return loaded

    def save(self, path: str | Path) -> None:
        """Write the list as readable JSON, atomically."""
        text = json.dumps(self.to_document(), indent=1, ensure_ascii=False)
        write_atomically(Path(path), (text + "\n").encode())


def load_negatives(path: str | Path, templates: Templates | None = None) -> NegativeList:
    """Return a list of negative labels: one that comes with mmood (`SHIPPED`), or that in a file.

    A file is one of mmood's own (`.json`), plain text, or NumPy's array of texts (`.npy`, as CMA's).

    Of mmood's own files, those of `mmood negatives` hold words with their prompts, and those of `mmood propose` names,
    which are nouns to be prompted.

    Plain text has one word a line, with a tab and its kind (`noun` or `adjective`) behind it if it is no noun; empty
    lines and those that begin with "# " do not count, words are cleaned (`clean_word`) and a repeated word stays once.
    An array has such lines as entries.

    Where every entry is a whole prompt already, such as "the nice yellow clintonia" in the list of NegLabel's authors,
    the words are taken out of their prompts, which also say their kind, and are prompted like any other list. With the
    template "{}", entries are used as they are.

    Args:
        path: the file, or the name of a list.
        templates: prompts for words; files of `mmood negatives` carry theirs.

    Raises:
        MmoodError: a missing or malformed file, one without words, or one in which some entries are whole prompts.
    """
    if is_shipped(path):
        loaded = _of_names(load_shipped(str(path)), str(path), templates or Templates())
    elif Path(path).suffix == ".json":
        what = f"The list of negative labels '{path}'"
        document = parse_json(read_limited(path, what), what)
        if is_names_file(document):
            loaded = _of_names(NamesFile.from_document(document, what), Path(path).name, templates or Templates())
        else:
            loaded = NegativeList.from_document(document, f"'{path}'")
    elif not Path(path).suffix and len(Path(path).parts) == 1 and not is_file(user_path(path)):
        raise unknown("list of negative labels or file", str(path), SHIPPED)
    else:
        is_array = Path(path).suffix == ".npy"
        lines = _array_lines(path) if is_array else read_lines(path, "list of negative labels")
        loaded = _parse_lines(lines, Path(path), templates or Templates())
    if not len(loaded):
        raise MmoodError(f"The list of negative labels '{path}' has no negative labels.")
    return loaded


def _of_names(names: NamesFile, file: str, templates: Templates) -> NegativeList:
    check_templates(templates.noun)
    part = NegativePart("noun", templates.noun, names.words)
    mined_with = {"file": file, **names.history()}
    return NegativeList((part,), templates.id, mined_with, templates.normalise_first)


def _parse_lines(lines: Sequence[str], path: Path, templates: Templates) -> NegativeList:
    entries: list[tuple[str, Kind | None]] = []
    for number, line in enumerate(lines, start=1):
        text, _, said = line.partition("\t")
        if (word := clean_word(text)) and not line.startswith("# "):
            entries.append((word, _kind(said.strip(), f"'{path}', line {number}") if said.strip() else None))
    words: dict[Kind, dict[str, None]] = {}
    for word, of in without_prompts(entries, templates, f"The list of negative labels '{path}'"):
        words.setdefault(of, {})[word] = None
    parts = tuple(NegativePart(kind, templates.of(kind), tuple(members)) for kind, members in words.items())
    for part in parts:
        check_templates(part.templates)
    return NegativeList(parts, templates.id, {"file": path.name}, templates.normalise_first)


def _array_lines(path: str | Path) -> list[str]:
    """Return the entries of an array of texts, whose file no code of others is run for."""
    what = f"The list of negative labels '{path}'"
    content = io.BytesIO(read_limited(path, what))
    try:
        version = npy.read_magic(content)
        shape, _, dtype = (npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0)(content)
    except Exception as error:  # whatever a header that is evaluated as a Python literal may end in
        raise MmoodError(f"{what} cannot be read as a NumPy array: {' '.join(str(error).split())}.") from error
    if dtype.hasobject:
        raise MmoodError(
            f"{what} holds pickled objects, which are programs; write it with `numpy.save(path, array.astype(str))`."
        )
    if dtype.kind != "U" or not dtype.itemsize or len(shape) != 1:
        raise MmoodError(f"{what} is an array of {dtype} of shape {shape}; it must be one list of strings.")
    body = content.read()
    if len(body) != shape[0] * dtype.itemsize:
        raise MmoodError(f"{what} is truncated: it has {len(body)} bytes of {shape[0]} strings.")
    encoding = "utf-32-be" if dtype.str.startswith(">") else "utf-32-le"
    try:
        # Not by NumPy, whose texts may hold numbers that are no characters.
        texts = (body[start : start + dtype.itemsize] for start in range(0, len(body), dtype.itemsize))
        return [text.decode(encoding).rstrip("\0") for text in texts]
    except ValueError as error:
        raise MmoodError(f"{what} has an entry that is not valid text: {error}.") from error


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
        raise MmoodError(f"{where} has an entry that is not a string among its words of kind '{kind}'.")
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in similarity):
        raise MmoodError(f"{where} has a similarity that is not a number among its words of kind '{kind}'.")
    return NegativePart(kind, _templates(document, "templates", where), tuple(words), similarity)


def _templates(document: Any, name: str, where: str) -> tuple[str, ...]:
    templates = _entry(document, name, list, where)
    if not all(isinstance(template, str) for template in templates):
        raise MmoodError(f"{where} has an entry that is not a string in '{name}'.")
    check_templates(templates)
    return tuple(templates)


def _entry(document: Any, name: str, kind: type | tuple[type, ...], where: str) -> Any:
    value = document.get(name) if isinstance(document, Mapping) else None
    if not isinstance(value, kind):
        raise MmoodError(f"{where} is not a list of negative labels: its entry '{name}' is {value!r:.40}.")
    return value
