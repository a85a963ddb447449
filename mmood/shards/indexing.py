"""Indexing shards that exist, and checking shards against their index."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, NamedTuple, cast, final

from mmood.classes.matching import compare, join
from mmood.errors import MmoodError
from mmood.files import is_folder, write_atomically
from mmood.images.formats import IMAGE_EXTENSIONS
from mmood.shards.hashes import image_hash
from mmood.shards.labels import GUESSED, NUMBERS, LabelSource, says_labels, texts_of
from mmood.shards.locations import check_set_name, open_stream
from mmood.shards.packing import Progress
from mmood.shards.passed_over import PassedOver
from mmood.shards.reading import FIELDS, UNREADABLE, tar_samples
from mmood.shards.shard_index import (
    IMAGES_FILE,
    INDEX_FILE,
    ShardEntry,
    ShardIndex,
    load_index,
    save_image_hashes,
    save_index,
    shard_files,
)
from mmood.shards.table import TABLE_FILE, SampleRow, dump_rows, facts_of, row_of
from mmood.shards.walk import HIDDEN, is_hidden

MAX_NAMED = 2**20
"""Classes whose names are looked for, at most: a label may be any number."""


@dataclass(frozen=True)
class Indexed:
    """An index that was written, and what lies in or beside the shards and is no part of the set."""

    index: ShardIndex
    passed_over: PassedOver


def index_folder(
    folder: Path, class_names: Sequence[str], source: str, progress: Progress, labels: LabelSource | None = None
) -> Indexed:
    """Index the shards (tar files, sorted by name) of a folder in place and return the index.

    Writes `index.json` and `samples.jsonl`; the shards are only read. The set is labelled if every sample has a label.

    Args:
        folder: ROOT/NAME.
        class_names: names in the order of the labels, if known.
        source: where the images come from, in words.
        progress: called with the number of bytes read, shard by shard.
        labels: which member of the samples holds them; None to look for it, see `GUESSED`.

    Raises:
        MmoodError: there is an index already, no shard, no sample, a sample without exactly one image, a label on
            some samples only, or class names in another order than the samples tell.
    """
    check_set_name(folder.name)
    if (folder / INDEX_FILE).exists():
        raise MmoodError(f"The set {folder} already has an index; remove {INDEX_FILE} to index it again.")
    shards = shard_files(folder) if is_folder(folder) else []
    if not shards:
        raise MmoodError(f"There are no shards (*.tar) in {folder}.")
    passed_over = _beside(folder, shards)
    progress(0)
    found = [FoundShard(str(shard), shard.name) for shard in shards]
    return write_index(folder, found, passed_over, Labelling(class_names, labels), source, progress)


class FoundShard(NamedTuple):
    """A shard to index: where it is, and how the index names it."""

    location: str
    url: str


class Labelling(NamedTuple):
    """How samples get labels: the class names in the order of the labels, and where the labels are (None: look)."""

    class_names: Sequence[str] = ()
    source: LabelSource | None = None


def write_index(
    folder: Path,
    shards: Sequence[FoundShard],
    passed_over: PassedOver,
    labelling: Labelling,
    source: str,
    progress: Progress,
) -> Indexed:
    """Read shards, wherever they are, and write their index into a folder; see `index_folder`."""
    sources = GUESSED if labelling.source is None else (labelling.source,)
    entries, rows, images, texts = _read(shards, passed_over, sources, progress)
    if not rows:
        raise MmoodError(f"The shards in {folder} hold no samples. {passed_over}".rstrip())
    labels, rows = _labelled(folder, rows, texts, sources, labelling.class_names)
    index = _index(folder, entries, rows, labelling.class_names, source, labels)
    write_atomically(folder / TABLE_FILE, dump_rows(rows))
    index = replace(index, image_hashes=save_image_hashes(images, folder))
    save_index(index, folder)
    return Indexed(index, passed_over)


def verify_folder(folder: Path, progress: Progress) -> ShardIndex:
    """Hash every local shard of a set again and return its index; MmoodError names the first shard that differs."""
    index = load_index(str(folder.parent), folder.name, pipes=True)
    index.verify(progress)
    return index


Texts = list[tuple[str | None, ...]]
"""What each sample says of its class in each of several sources."""


def _read(
    shards: Sequence[FoundShard], passed_over: PassedOver, sources: Sequence[LabelSource], progress: Progress
) -> tuple[list[ShardEntry], list[SampleRow], list[int], Texts]:
    """Return the shards, the rows of their samples without labels, the hashes of their images, and their labels."""
    entries: list[ShardEntry] = []
    rows: list[SampleRow] = []
    images: list[int] = []
    texts: Texts = []
    for shard in shards:
        before = len(rows)
        try:
            with open_stream(shard.location) as plain:
                stream = _Counted(plain)
                for name, fields in _samples(stream, shard.location, passed_over, sources):
                    rows.append(SampleRow(len(rows), name, None, **_facts(name, fields, passed_over)))
                    images.append(image_hash(_image(name, fields, shard.location)))
                    texts.append(tuple(source.text(fields) for source in sources))
                while stream.read(2**20):  # tar ends before its padding does
                    pass
        except UNREADABLE as error:
            raise MmoodError(f"The shard {shard.location} cannot be read: {error}.") from error
        if len(rows) == before:
            passed_over.add("shards without a sample", shard.url)
        entries.append(ShardEntry(shard.url, len(rows) - before, stream.sha256.hexdigest()))
        progress(stream.count)
    return entries, rows, images, texts


@final
class _Counted(io.RawIOBase):
    """A stream whose bytes are counted and hashed as they are read."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream = stream
        self.sha256 = hashlib.sha256()
        self.count = 0

    def read(self, size: int = -1) -> bytes:
        """Return up to `size` bytes."""
        found = self.stream.read(size)
        self.sha256.update(found)
        self.count += len(found)
        return found


def _samples(
    stream: _Counted, shard: str, passed_over: PassedOver, sources: Sequence[LabelSource]
) -> Iterator[tuple[str, dict[str, bytes]]]:
    def pass_over(member: str) -> None:
        passed_over.add(_why(member), member)

    fields = FIELDS | {source.member for source in sources}
    return tar_samples(cast("IO[bytes]", stream), pass_over=pass_over, fields=fields)


def _image(name: str, fields: dict[str, bytes], shard: str) -> bytes:
    images = [content for extension, content in fields.items() if extension in IMAGE_EXTENSIONS]
    if len(images) != 1:
        raise MmoodError(f"The sample '{name}' of {shard} has {len(images)} images; a sample needs exactly one.")
    return images[0]


def _labelled(
    folder: Path, rows: list[SampleRow], texts: Texts, sources: Sequence[LabelSource], class_names: Sequence[str]
) -> tuple[LabelSource, list[SampleRow]]:
    """Return where the labels are, and the rows with them.

    Labels that are names are numbered in their order, or by the class names.
    """
    columns = ([of[place] for of in texts] for place in range(len(sources)))
    pairs = zip(sources, columns, strict=True)
    source, found = next((pair for pair in pairs if says_labels(*pair)), (NUMBERS, []))
    if not found:
        return NUMBERS, rows
    names = texts_of(text for text in found if text is not None)
    if names:
        source = replace(source, texts=join(names, class_names, f"The labels of {folder}").folders)
    labelled = []
    for row, text in zip(rows, found, strict=True):
        facts = {"name": row.name or (text or "" if names else ""), "source": row.source, "file": row.file}
        try:
            labelled.append(row_of(row.key, row.sample, source.number(text), facts))
        except ValueError as error:
            raise MmoodError(f"The sample '{row.sample}' of {folder} cannot be indexed: {error}.") from error
    return source, labelled


def _index(
    folder: Path,
    entries: list[ShardEntry],
    rows: list[SampleRow],
    class_names: Sequence[str],
    source: str,
    labels: LabelSource,
) -> ShardIndex:
    classes = _classes(folder, rows, class_names, labels)
    seen = () if classes is None else _seen_names(rows, classes)
    if class_names and (moved := compare(seen, class_names).moved) is not None:
        raise MmoodError(
            f"The class names are those of the samples in {folder} in another order: label {moved[0]} is "
            f"'{seen[moved[0]]}' in the samples and '{class_names[moved[0]]}' in the class file; give the names in the "
            "order of the labels."
        )
    return ShardIndex(
        folder.name,
        tuple(entries),
        classes=classes,
        class_names=tuple(class_names) if classes is not None else (),
        seen_names=() if class_names else seen,
        source=source or _common_source(rows),
        root=str(folder.parent),
        class_folders=labels.texts,
        labels=labels,
    )


def _beside(folder: Path, shards: list[Path]) -> PassedOver:
    passed_over = PassedOver()
    for path in sorted(folder.iterdir()):
        if path not in shards and path.name not in (TABLE_FILE, IMAGES_FILE) and not is_hidden(path.name):
            passed_over.add("files and folders that are not shards", path.name)
    return passed_over


def _why(member: str) -> str:
    """Return why a member is no part of a sample."""
    if any(map(is_hidden, member.split("/"))):
        return HIDDEN
    if member.rpartition(".")[2].lower() in FIELDS:
        return "members with an extra field (NAME.FIELD.EXTENSION)"
    return "members that are neither image, json nor label (`cls`)"


def _facts(name: str, fields: dict[str, bytes], passed_over: PassedOver) -> dict[str, str]:
    try:
        return facts_of(fields.get("json"))
    except MmoodError:  # image and label can be used without it
        passed_over.add("json members that cannot be used", f"{name}.json")
        return {}


def _seen_names(rows: list[SampleRow], classes: int) -> tuple[str, ...]:
    """Return how the samples call each class, "" where not all of its samples call it the same; empty without any."""
    if classes > MAX_NAMED:
        return ()
    names: dict[int, set[str]] = {}
    for row in rows:
        if row.label is not None:
            names.setdefault(row.label, set()).add(row.name)
    of_label = (names.get(label, set()) for label in range(classes))
    seen = tuple(next(iter(found)) if len(found) == 1 else "" for found in of_label)
    return seen if any(seen) else ()


def _classes(folder: Path, rows: list[SampleRow], class_names: Sequence[str], source: LabelSource) -> int | None:
    """Return the number of classes, None for a set without labels."""
    labels = [row.label for row in rows if row.label is not None]
    if not labels:
        return None
    if len(labels) < len(rows):
        bare = next(row.sample for row in rows if row.label is None)
        raise MmoodError(
            f"In {folder} {len(labels)} of {len(rows)} samples have a label (`{source}`); '{bare}' has none."
        )
    if min(labels) < 0:
        raise MmoodError(f"In {folder} there is a label {min(labels)}; labels start at 0.")
    if class_names and max(labels) >= len(class_names):
        raise MmoodError(
            f"In {folder} there is a label {max(labels)}, but the class file has {len(class_names)} names."
        )
    return len(class_names) or max(labels) + 1


def _common_source(rows: list[SampleRow]) -> str:
    """Return the source that all samples name, or nothing."""
    sources = {row.source for row in rows}
    return sources.pop() if len(sources) == 1 else ""
