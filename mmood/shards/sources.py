"""Where a loader takes samples from: the shards of a set, or plain image files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from mmood.files import utf8_name
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


class InputFile(NamedTuple):
    """An image file to read.

    Attributes:
        path: where it is.
        name: what it is called in files and messages; UTF-8 whatever the path is.
        reason: why it cannot be read, if that is known before; "" otherwise.
    """

    path: Path
    name: str
    reason: str = ""


class FileSource:
    """Image files; the key is the position in the list."""

    def __init__(self, files: Sequence[InputFile]) -> None:
        self.files = files

    def read(self, keys: Keys, skip: bool) -> Iterator[RawSample | Skipped]:
        """See SampleSource."""
        for key in keys.tolist():
            path, name, reason = self.files[key]
            content = b""
            try:
                content = b"" if reason else path.read_bytes()
            except (OSError, ValueError) as error:  # ValueError: a NUL in the path
                reason = f"the file cannot be read: {error.strerror if isinstance(error, OSError) else error}"
            folder = utf8_name(str(path.parent))
            if not reason:
                yield RawSample(key, folder, name, content)
            elif skip:
                yield Skipped(key, folder, name, reason)
            else:
                raise ShardError(f"The image {name} in {folder} cannot be used: {reason}.")
