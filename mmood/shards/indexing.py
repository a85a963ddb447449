"""Indexing shards that exist, and checking shards against their index."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from mmood.errors import MmoodError
from mmood.files import write_atomically
from mmood.shards.index import INDEX_FILE, SetIndex, ShardEntry, load_index, save_index
from mmood.shards.locations import check_set_name, is_local
from mmood.shards.packing import Progress, sha256_of
from mmood.shards.reading import IMAGE_EXTENSIONS, UNREADABLE, tar_samples
from mmood.shards.table import TABLE_FILE, SampleRow, dump_rows, row_of


def index_folder(folder: Path, class_names: Sequence[str], source: str, progress: Progress) -> SetIndex:
    """Index the shards (*.tar, sorted by name) of a folder in place and return the index.

    Writes `index.json` and `samples.jsonl`; the shards are only read. The set is labelled if every sample has a `cls`.

    Args:
        folder: ROOT/NAME.
        class_names: names in the order of the labels, if known.
        source: where the images come from, in words.
        progress: called with the number of bytes read, shard by shard.

    Raises:
        MmoodError: there is an index already, no shard, a sample without exactly one image, or a label on some samples
            only.
    """
    check_set_name(folder.name)
    if (folder / INDEX_FILE).exists():
        raise MmoodError(
            f"The set {folder} has an index, which is not overwritten; remove {INDEX_FILE} to index it anew."
        )
    shards = sorted(folder.glob("*.tar"))
    if not shards:
        raise MmoodError(f"There are no shards (*.tar) in {folder}.")
    entries: list[ShardEntry] = []
    rows: list[SampleRow] = []
    for shard in shards:
        before = len(rows)
        rows.extend(_rows(shard, before))
        entries.append(ShardEntry(shard.name, len(rows) - before, sha256_of(shard)))
        progress(shard.stat().st_size)
    classes = _classes(folder, rows, class_names)
    names = tuple(class_names) if classes is not None else ()
    index = SetIndex(folder.name, tuple(entries), classes, names, source or _common_source(rows), str(folder.parent))
    write_atomically(folder / TABLE_FILE, dump_rows(rows))
    save_index(index, folder)
    return index


def verify_folder(folder: Path, progress: Progress) -> SetIndex:
    """Hash every local shard of a set anew and return its index; MmoodError names the first shard that differs."""
    index = load_index(str(folder.parent), folder.name, pipes=True)
    for entry in index.shards:
        if not is_local(entry.url):
            raise MmoodError(f"The shard {entry.url} of {folder} is not a local file and cannot be verified.")
        path = folder / entry.url
        if not path.exists():
            raise MmoodError(f"The shard {path} is missing.")
        if sha256_of(path) != entry.sha256:
            raise MmoodError(f"The shard {path} differs from its index: it was changed or damaged after indexing.")
        progress(path.stat().st_size)
    return index


def _rows(shard: Path, first_key: int) -> Iterator[SampleRow]:
    try:
        with shard.open("rb") as stream:
            for key, (name, fields) in enumerate(tar_samples(stream), first_key):
                images = sum(extension in IMAGE_EXTENSIONS for extension in fields)
                if images != 1:
                    raise MmoodError(f"The sample '{name}' of {shard} has {images} images; each needs exactly one.")
                try:
                    yield row_of(key, name, fields.get("cls"), fields.get("json"))
                except ValueError as error:
                    raise MmoodError(f"The sample '{name}' of {shard} cannot be indexed: {error}.") from error
    except UNREADABLE as error:
        raise MmoodError(f"The shard {shard} cannot be read: {error}.") from error


def _classes(folder: Path, rows: list[SampleRow], class_names: Sequence[str]) -> int | None:
    """Return the number of classes, None for a set without labels."""
    labels = [row.label for row in rows if row.label is not None]
    if not labels:
        return None
    if len(labels) < len(rows):
        bare = next(row.sample for row in rows if row.label is None)
        raise MmoodError(f"In {folder} {len(labels)} of {len(rows)} samples have a label (`cls`); '{bare}' has none.")
    if min(labels) < 0:
        raise MmoodError(f"In {folder} there is a label {min(labels)}; labels start at 0.")
    if class_names and max(labels) >= len(class_names):
        raise MmoodError(
            f"In {folder} there is a label {max(labels)}, and the class file has {len(class_names)} names."
        )
    return len(class_names) or max(labels) + 1


def _common_source(rows: list[SampleRow]) -> str:
    """Return the source that all samples name, or nothing."""
    sources = {row.source for row in rows}
    return sources.pop() if len(sources) == 1 else ""
