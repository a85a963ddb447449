"""The index of a set: which shards, how many samples, which hashes.

`index.json` stands beside the shards:

    {"schema": 1, "name": "sun", "source": "...", "classes": null, "class_names": [], "class_folders": [],
     "seen_names": [], "shards": [{"url": "sun-000000.tar", "nsamples": 5000, "sha256": "..."}]}

A sample's *key* is its position in the set: the samples of all earlier shards plus its position in its own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmood.classes.matching import are_names
from mmood.errors import MmoodError
from mmood.files import parse_json, write_atomically
from mmood.shards import locations

SCHEMA = 1
INDEX_FILE = "index.json"
_SHARDS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2")

MAX_SAMPLES = 2**28
"""Samples of a set, at most: its keys are held in memory, and an index may be somebody else's."""

Keys = NDArray[np.int64]


class MissingSetError(MmoodError):
    """There is no index of the set below the root."""


@dataclass(frozen=True)
class ShardEntry:
    """One tar file: `url` relative to the index (or http(s)/pipe:), its number of samples, its sha256 in hex."""

    url: str
    nsamples: int
    sha256: str


@dataclass(frozen=True)
class SetIndex:
    """A set of shards.

    Attributes:
        name: the folder's name.
        shards: in the order of the keys.
        classes: number of classes, or None if the samples carry no label.
        class_names: their names, or empty if unknown.
        class_folders: the folders that they were packed from, in the order of the labels, or empty.
        seen_names: without class names, how the samples themselves call the classes, in the order of the labels, as far
            as they do; "" where they do not, or not all in one way.
        source: where the images come from, in words.
        root: folder or URL prefix that holds the set's folder; not part of the file.
    """

    name: str
    shards: tuple[ShardEntry, ...]
    classes: int | None = None
    class_names: tuple[str, ...] = ()
    class_folders: tuple[str, ...] = ()
    seen_names: tuple[str, ...] = ()
    source: str = ""
    root: str = field(default=".", compare=False)

    @cached_property
    def offsets(self) -> Keys:
        """Key of the first sample of each shard, and the count of the set at the end."""
        return np.cumsum([0, *(shard.nsamples for shard in self.shards)], dtype=np.int64)

    @property
    def count(self) -> int:
        """Number of samples."""
        return int(self.offsets[-1])

    @cached_property
    def hash(self) -> str:
        """Sha256 of the content: counts and hashes of the shards, whatever their names and places."""
        content = json.dumps([[shard.nsamples, shard.sha256] for shard in self.shards])
        return hashlib.sha256(content.encode()).hexdigest()

    @property
    def known_names(self) -> tuple[str, ...]:
        """How the set calls its classes, in the order of the labels; empty if it does not say."""
        names = self.class_names or self.seen_names
        return names if are_names(names) else ()

    def keys(self) -> Keys:
        """Return all keys, ascending."""
        return np.arange(self.count, dtype=np.int64)

    def location(self, shard: int) -> str:
        """Return where a shard lies, ready to open."""
        url = self.shards[shard].url
        return url if not locations.is_local(url) else locations.join(self.root, f"{self.name}/{url}")

    def by_shard(self, keys: Keys) -> Iterator[tuple[int, Keys]]:
        """Cut keys into runs within one shard each: (number of the shard, positions in it).

        The keys of one shard must stand together and ascend; the shards may come in any order.
        """
        owner = np.searchsorted(self.offsets, keys, side="right") - 1
        for run in np.split(np.arange(len(keys)), np.flatnonzero(np.diff(owner)) + 1):
            if len(run):
                shard = int(owner[run[0]])
                yield shard, keys[run] - self.offsets[shard]


def load_index(root: str, name: str, pipes: bool = False) -> SetIndex:
    """Read and check `ROOT/NAME/index.json`.

    Args:
        root: folder, http(s) prefix or command that holds the sets.
        name: folder of the set.
        pipes: whether shards may be commands. An index is data, often somebody else's, and a `pipe:` URL in it runs as
            the user; so only with consent, and never from an index that came over http(s).

    Raises:
        MissingSetError: there is no such index.
        MmoodError: it cannot be read or is not an index; the sentence names file and key.
    """
    location = locations.join(root, f"{locations.check_set_name(name)}/{INDEX_FILE}")
    try:
        content = locations.read_bytes(location)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MissingSetError(_missing(root, name, location)) from error
    except OSError as error:
        raise MmoodError(f"The index {location} cannot be read: {error}.") from error
    index = parse_index(parse_json(content, f"The index {location}"), location, name, root)
    _check_pipes(index, location, pipes and not locations.is_remote(root))
    return index


def save_index(index: SetIndex, folder: Path) -> None:
    """Write `index.json` into the set's folder, in full or not at all."""
    document = {"schema": SCHEMA, **asdict(index)}
    del document["root"]
    write_atomically(folder / INDEX_FILE, (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode())


def parse_index(document: Any, location: str, name: str, root: str) -> SetIndex:
    """Return the index that a JSON document holds; MmoodError names the first key that is wrong."""
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        found = document.get("schema") if isinstance(document, dict) else type(document).__name__
        raise MmoodError(
            f"The index {location} has schema {found!r:.40}, but this version of mmood reads schema {SCHEMA}."
        )
    shards = _typed(document, "shards", list, location)
    classes = _typed(document, "classes", int, location) if document.get("classes") is not None else None
    if classes is not None and classes < 1:
        raise MmoodError(f"In the index {location}, `classes` is {classes}; it must be at least 1, or null.")
    entries = tuple(_shard(entry, f"{location}, shards[{number}]") for number, entry in enumerate(shards))
    if (total := sum(entry.nsamples for entry in entries)) > MAX_SAMPLES:
        raise MmoodError(f"The index {location} counts {total} samples; a set has at most {MAX_SAMPLES}.")
    names = {key: _names(document, key, location) for key in ("class_names", "class_folders", "seen_names")}
    for key, found in names.items():
        if found and len(found) != classes:
            raise MmoodError(f"In the index {location}, `{key}` has {len(found)} names for {classes or 0} classes.")
    return SetIndex(
        name=name,
        shards=entries,
        classes=classes,
        class_names=names["class_names"],
        class_folders=names["class_folders"],
        seen_names=names["seen_names"],
        source=_typed(document, "source", str, location) if "source" in document else "",
        root=root,
    )


def _shard(entry: Any, where: str) -> ShardEntry:
    if not isinstance(entry, dict):
        raise MmoodError(f"In the index {where} must be an object with url, nsamples and sha256.")
    url = _typed(entry, "url", str, where)
    nsamples = _typed(entry, "nsamples", int, where)
    sha256 = _typed(entry, "sha256", str, where)
    if nsamples < 0:
        raise MmoodError(f"In the index {where}, `nsamples` is {nsamples}; it must not be negative.")
    if len(sha256) != 64 or not set(sha256) <= set("0123456789abcdef"):
        raise MmoodError(f"In the index {where}, `sha256` must be 64 hexadecimal digits.")
    if reason := locations.check_relative(url) if locations.is_local(url) else locations.check_printable(url):
        raise MmoodError(f"In the index {where}, the url {url!r:.80} {reason}.")
    return ShardEntry(url, nsamples, sha256)


def _names(document: dict[str, Any], key: str, location: str) -> tuple[str, ...]:
    names = _typed(document, key, list, location) if key in document else []
    if not all(isinstance(entry, str) for entry in names):
        raise MmoodError(f"In the index {location}, `{key}` must be a list of names.")
    return tuple(names)


def _typed(document: dict[str, Any], key: str, kind: type, where: str) -> Any:
    value = document.get(key)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise MmoodError(f"In the index {where}, `{key}` must be of type {kind.__name__}, but is {value!r:.40}.")
    return value


def _check_pipes(index: SetIndex, location: str, allowed: bool) -> None:
    command = next((shard.url for shard in index.shards if locations.is_pipe(shard.url)), None)
    if command is not None and not allowed:
        raise MmoodError(
            f"The index {location} wants to run a command ('{command}'); if you wrote it yourself, "
            "set `data.loader.pipes: true`, which works for an index in a local folder."
        )


def shard_files(folder: Path) -> list[Path]:
    """Return the tar files of a folder, plain or compressed by gzip or bzip2, sorted by name."""
    return sorted(path for path in folder.iterdir() if path.name.lower().endswith(_SHARDS) and path.is_file())


def _missing(root: str, name: str, location: str) -> str:
    folder = Path(root) / name
    if locations.is_local(root) and folder.is_dir() and shard_files(folder):
        return f"The set '{name}' has shards but no index; run `mmood pack --index {folder}`."
    return f"There is no set '{name}': {location} does not exist; set `data.root` to the folder that contains the sets."
