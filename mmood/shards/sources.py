"""Where a loader takes samples from: the shards of a set, or plain image files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from mmood.shards.index import Keys, SetIndex
from mmood.shards.reading import RawSample, ShardError, Skipped, read_shard


class SampleSource(Protocol):
    """Reads samples by key; picklable, so that workers can be started in any way."""

    def read(self, keys: Keys, skip: bool) -> Iterator[RawSample | Skipped]:
        """Yield one item per key, in their order: the sample, or under `skip` why it cannot be read.

        Raises:
            MmoodError: a sample cannot be read and `skip` is false, or a shard is not the one that was indexed.
        """


class ShardSource:
    """The samples of an indexed set; keys of one shard must stand together and ascend."""

    def __init__(self, index: SetIndex) -> None:
        self.index = index

    def read(self, keys: Keys, skip: bool) -> Iterator[RawSample | Skipped]:
        """See SampleSource; a shard that breaks off is skipped from there on."""
        for shard, positions in self.index.by_shard(keys):
            done = 0
            try:
                for sample in read_shard(self.index, shard, positions):
                    done += 1
                    yield sample
            except ShardError as error:
                if not skip:
                    raise
                first = int(self.index.offsets[shard])
                for position in positions[done:].tolist():
                    yield Skipped(first + position, self.index.location(shard), "", str(error))


class FileSource:
    """Image files in a folder; the key is the position in the list."""

    def __init__(self, folder: Path, files: list[str]) -> None:
        self.folder = folder
        self.files = files

    def read(self, keys: Keys, skip: bool) -> Iterator[RawSample | Skipped]:
        """See SampleSource."""
        for key in keys.tolist():
            name = self.files[key]
            try:
                content = (self.folder / name).read_bytes()
            except OSError as error:
                if not skip:
                    raise ShardError(f"The image {self.folder / name} cannot be read: {error.strerror}.") from error
                yield Skipped(key, str(self.folder), name, f"cannot be read: {error.strerror}")
            else:
                yield RawSample(key, str(self.folder), name, content)
