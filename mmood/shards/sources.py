"""Where a loader takes samples from: a set by its index, or plain image files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from mmood.files import utf8_name
from mmood.shards.index import Keys
from mmood.shards.reading import RawSample, ShardError, Skipped


class SampleSource(Protocol):
    """What reads samples by key, such as a SetIndex; picklable, so that workers can be started in any way."""

    def read(self, keys: Keys, skip: bool) -> Iterator[RawSample | Skipped]:
        """Yield one item per key, in their order: the sample, or under `skip` why it cannot be read.

        Raises:
            MmoodError: a sample cannot be read and `skip` is false, or a shard is not the one that was indexed.
        """


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
