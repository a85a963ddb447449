"""The index of a set of shards: which tar files, how many samples, which hashes.

`index.json` stands beside the shards:

    {"schema": 1, "name": "sun", "classes": null, "class_names": [], "class_folders": [], "seen_names": [],
     "source": "...", "image_hashes": "...", "shards": [{"url": "sun-000000.tar", "nsamples": 5000, "sha256": "..."}]}

`images.npy` has a hash of each image, so that sets can be compared that are far away or large. A sample's key is the
number of samples in all earlier shards plus its position in its own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, final

import numpy as np

from mmood.errors import MmoodError
from mmood.files import parse_json, write_atomically
from mmood.shards import locations
from mmood.shards.hashes import dump_hashes, parse_hashes
from mmood.shards.index import MAX_SAMPLES, Hashes, Keys, MissingSetError, SetIndex
from mmood.shards.labels import NUMBERS, LabelSource, parse_labels
from mmood.shards.reading import RawSample, ShardError, Skipped, read_shard
from mmood.shards.table import TABLE_FILE, SampleRow, load_table

SCHEMA = 1
INDEX_FILE = "index.json"
IMAGES_FILE = "images.npy"
_SHARDS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2")


@dataclass(frozen=True)
class ShardEntry:
    """One tar file: `url` relative to the index (or http(s)/pipe:), its number of samples, its sha256 in hex."""

    url: str
    nsamples: int
    sha256: str


@final
@dataclass(frozen=True)
class ShardIndex(SetIndex):
    """A set of shards.

    Attributes:
        shards: in the order of the keys.
        image_hashes: sha256 of the file `images.npy` beside the index, which holds a hash of each image; "" without it.
        root: folder or URL prefix that holds the set's folder; not part of the file.
        labels: where the samples say their class; left out of the file where that is a number in `cls`.
    """

    shards: tuple[ShardEntry, ...]
    image_hashes: str = field(default="", compare=False)
    root: str = field(default=".", compare=False)
    labels: LabelSource = NUMBERS

    @cached_property
    def offsets(self) -> Keys:
        """Key of the first sample of each shard, and the count of the set at the end."""
        return np.cumsum([0, *(shard.nsamples for shard in self.shards)], dtype=np.int64)

    @property
    def count(self) -> int:
        """See SetIndex."""
        return int(self.offsets[-1])

    @cached_property
    def hash(self) -> str:
        """Sha256 of counts and hashes of the shards, and of where the labels are if that is not `cls`."""
        content = json.dumps([[shard.nsamples, shard.sha256] for shard in self.shards])
        labels = "" if self.labels == NUMBERS else json.dumps(asdict(self.labels))
        return hashlib.sha256((content + labels).encode()).hexdigest()

    @property
    def place(self) -> str:
        """The set's folder."""
        return locations.join(self.root, self.name)

    @property
    def summary(self) -> str:
        """See SetIndex."""
        samples, shards = self.count, len(self.shards)
        return f"{samples} sample{'s' * (samples != 1)} in {shards} shard{'s' * (shards != 1)}"

    @property
    def random_access(self) -> bool:
        """No: a shard is read front to back."""
        return False

    def location(self, shard: int) -> str:
        """Return where a shard lies, ready to open."""
        url = self.shards[shard].url
        return url if not locations.is_local(url) else locations.join(self.root, f"{self.name}/{url}")

    def runs(self, keys: Keys) -> Keys:
        """Return the number of each key's shard."""
        return np.searchsorted(self.offsets, keys, side="right") - 1

    def by_shard(self, keys: Keys) -> Iterator[tuple[int, Keys]]:
        """Cut keys into runs within one shard each: (number of the shard, positions in it).

        The keys of one shard must stand together and ascend; the shards may come in any order.
        """
        owner = self.runs(keys)
        for run in np.split(np.arange(len(keys)), np.flatnonzero(np.diff(owner)) + 1):
            if len(run):
                shard = int(owner[run[0]])
                yield shard, keys[run] - self.offsets[shard]

    def read(self, keys: Keys, skip: bool) -> Iterator[RawSample | Skipped]:
        """See SetIndex; a shard that breaks off is skipped from there on."""
        for shard, positions in self.by_shard(keys):
            location, first, done = self.location(shard), int(self.offsets[shard]), 0
            try:
                for sample in read_shard(location, self.shards[shard].nsamples, first, positions, self.labels):
                    done += 1
                    yield sample
            except ShardError as error:
                if not skip:
                    raise
                for position in positions[done:].tolist():
                    yield Skipped(first + position, location, "", str(error))

    def rows(self) -> list[SampleRow]:
        """Return the table beside the index."""
        return load_table(locations.join(self.root, f"{self.name}/{TABLE_FILE}"), self.count)

    def bytes_here(self) -> int:
        """See SetIndex."""
        places = [self.location(shard) for shard in range(len(self.shards))]
        far = next((place for place in places if not locations.is_local(place)), None)
        if far is not None:
            raise MmoodError(f"'{self.name}' is not on this machine ({far}).")
        return sum(Path(place).stat().st_size for place in places if Path(place).exists())

    def known_hashes(self, keys: Keys) -> Hashes | None:
        """Return the hashes of the file beside the index; MmoodError if it is not the one that the index names."""
        if not self.image_hashes:
            return None
        location = locations.join(self.root, f"{self.name}/{IMAGES_FILE}")
        try:
            content = locations.read_bytes(location, MAX_SAMPLES * 8 + 2**10)
        except FileNotFoundError:  # the shards were copied without it
            return None
        except OSError as error:
            raise MmoodError(f"The image hashes {location} cannot be read: {error}.") from error
        if hashlib.sha256(content).hexdigest() != self.image_hashes:
            raise MmoodError(f"The image hashes {location} are not those that the index names; index the set again.")
        return parse_hashes(content, self.count, f"The image hashes {location}")[keys]

    def verify(self, advance: Callable[[int], object] = lambda amount: None) -> None:
        """Hash every shard again; MmoodError names the first that differs, is missing, or is not a local file."""
        for entry in self.shards:
            if not locations.is_local(entry.url) or not locations.is_local(self.root):
                raise MmoodError(f"The shard {entry.url} of {self.place} is not a local file and cannot be verified.")
            path = Path(self.place) / entry.url
            if not path.exists():
                raise MmoodError(f"The shard {path} is missing.")
            if sha256_of(path) != entry.sha256:
                raise MmoodError(f"The shard {path} differs from its index: it was changed or damaged after indexing.")
            advance(path.stat().st_size)


def load_index(root: str, name: str, pipes: bool = False) -> ShardIndex:
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


def save_index(index: ShardIndex, folder: Path) -> None:
    """Write `index.json` into the set's folder, in full or not at all."""
    facts = asdict(index)
    order = ["name", "shards", "classes", "class_names", "class_folders", "seen_names", "source", "image_hashes"]
    order += [] if index.labels == NUMBERS else ["labels"]
    document = {"schema": SCHEMA} | {name: facts[name] for name in order}
    write_atomically(folder / INDEX_FILE, (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode())


def save_image_hashes(hashes: Sequence[int], folder: Path) -> str:
    """Write the hashes of a set's images, in the order of the keys, and return the sha256 that the index names."""
    content = dump_hashes(hashes)
    write_atomically(folder / IMAGES_FILE, content)
    return hashlib.sha256(content).hexdigest()


def parse_index(document: Any, location: str, name: str, root: str) -> ShardIndex:
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
    labels = parse_labels(document["labels"], location) if "labels" in document else NUMBERS
    if labels.texts and len(labels.texts) != classes:
        raise MmoodError(f"In the index {location}, `labels` has {len(labels.texts)} texts for {classes or 0} classes.")
    return ShardIndex(
        name,
        entries,
        classes=classes,
        class_names=names["class_names"],
        class_folders=names["class_folders"],
        seen_names=names["seen_names"],
        source=_typed(document, "source", str, location) if "source" in document else "",
        image_hashes=_image_hashes(document, location),
        root=root,
        labels=labels,
    )


def _image_hashes(document: dict[str, Any], location: str) -> str:
    sha256 = _typed(document, "image_hashes", str, location) if "image_hashes" in document else ""
    if sha256 and not _is_sha256(sha256):
        raise MmoodError(f"In the index {location}, `image_hashes` must be 64 hexadecimal digits, or empty.")
    return str(sha256)


def _is_sha256(text: str) -> bool:
    return len(text) == 64 and set(text) <= set("0123456789abcdef")


def _shard(entry: Any, where: str) -> ShardEntry:
    if not isinstance(entry, dict):
        raise MmoodError(f"In the index {where} must be an object with url, nsamples and sha256.")
    url = _typed(entry, "url", str, where)
    nsamples = _typed(entry, "nsamples", int, where)
    sha256 = _typed(entry, "sha256", str, where)
    if nsamples < 0:
        raise MmoodError(f"In the index {where}, `nsamples` is {nsamples}; it must not be negative.")
    if not _is_sha256(sha256):
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


def _check_pipes(index: ShardIndex, location: str, allowed: bool) -> None:
    command = next((shard.url for shard in index.shards if locations.is_pipe(shard.url)), None)
    if command is not None and not allowed:
        raise MmoodError(
            f"The index {location} wants to run a command ('{command}'); if you wrote it yourself, "
            "set `data.loader.pipes: true`, which works for an index in a local folder."
        )


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def shard_files(folder: Path) -> list[Path]:
    """Return the tar files of a folder, plain or compressed by gzip or bzip2, sorted by name."""
    return sorted(path for path in folder.iterdir() if path.name.lower().endswith(_SHARDS) and path.is_file())


def _missing(root: str, name: str, location: str) -> str:
    folder = Path(root) / name
    if locations.is_local(root) and folder.is_dir() and shard_files(folder):
        return f"The set '{name}' has shards but no index; run `mmood pack --index {folder}`."
    return f"There is no set '{name}': {location} does not exist; set `data.root` to the folder that contains the sets."
