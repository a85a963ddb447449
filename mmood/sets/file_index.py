"""A set of image files, read where they are."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath
from typing import final

import numpy as np
from numpy.typing import NDArray

from mmood.errors import MmoodError
from mmood.files import utf8_name
from mmood.sets.contents import Digests, Paths
from mmood.sets.storage import Storage, unreadable
from mmood.shards.index import Hashes, Keys, SetIndex
from mmood.shards.reading import RawSample, ShardError, Skipped
from mmood.shards.table import SampleRow


@final
@dataclass(frozen=True, eq=False)
class FileIndex(SetIndex):
    """A set of image files; the key is the position among the sorted paths, or in the list.

    Every file that is read must be the one that was indexed, by its hash.

    Attributes:
        storage: where the files are.
        paths: of the files, in the order of the keys.
        sha256: (N, 32) of their contents.
        labels: (N,) class index, None for a set without labels.
        size: bytes of all files.
        found_at: the folder, zip file or list that the user named.
        said: see `notes`.
    """

    storage: Storage
    paths: Paths
    sha256: Digests
    labels: NDArray[np.int64] | None
    size: int
    found_at: str
    said: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """See SetIndex."""
        return len(self.paths)

    @cached_property
    def hash(self) -> str:
        """Sha256 of the hashes of all files and of their labels."""
        digest = hashlib.sha256(b"files\n" + np.ascontiguousarray(self.sha256).tobytes())
        digest.update(b"" if self.labels is None else self.labels.astype("<i8").tobytes())
        return digest.hexdigest()

    @property
    def place(self) -> str:
        """See SetIndex."""
        return self.found_at

    @property
    def summary(self) -> str:
        """See SetIndex."""
        return f"{self.count} images in {utf8_name(self.found_at)}"

    @property
    def random_access(self) -> bool:
        """Yes: each file is opened alone."""
        return True

    @property
    def notes(self) -> tuple[str, ...]:
        """What was skipped in the folder."""
        return self.said

    def read(self, keys: Keys, skip: bool) -> Iterator[RawSample | Skipped]:
        """See SetIndex; a file with another content than when it was indexed always ends the run."""
        if not len(keys):
            return
        place = utf8_name(str(self.storage.place))
        with self.storage.opened() as content_of:
            for key in keys.tolist():
                path, name = self.paths[key], utf8_name(self.paths[key])
                try:
                    content = content_of(path)
                except (OSError, ValueError, MmoodError) as error:
                    if not skip:
                        raise ShardError(str(unreadable(self.storage.place, path, error))) from error
                    yield Skipped(key, place, name, str(unreadable(self.storage.place, path, error)))
                    continue
                if hashlib.sha256(content).digest() != self.sha256[key].tobytes():
                    raise MmoodError(
                        f"The image {name} in {place} was changed after the set '{self.name}' was indexed; start again."
                    )
                cls = None if self.labels is None else str(self.labels[key]).encode()
                yield RawSample(key, place, name, content, cls)

    def rows(self) -> list[SampleRow]:
        """See SetIndex."""
        return [self._row(key) for key in range(self.count)]

    def runs(self, keys: Keys) -> Keys:
        """Return the keys: each file is a run of its own."""
        return keys

    def bytes_here(self) -> int:
        """See SetIndex."""
        return self.size

    def known_hashes(self, keys: Keys) -> Hashes:
        """See SetIndex."""
        first = np.ascontiguousarray(self.sha256[keys, :8])
        return first.view(">u8")[:, 0].astype(np.uint64)

    def verify(self, advance: Callable[[int], object] = lambda amount: None) -> None:
        """See SetIndex."""
        for sample in self.read(self.keys(), skip=False):
            advance(len(sample.image or b"") if isinstance(sample, RawSample) else 0)

    def _row(self, key: int) -> SampleRow:
        path = self.paths[key]
        label = None if self.labels is None else int(self.labels[key])
        named = label is not None and self.class_names
        name = self.class_names[label] if named and label is not None else utf8_name(PurePosixPath(path).parent.name)
        return SampleRow(key, utf8_name(path), label, name, self.source, utf8_name(path))
