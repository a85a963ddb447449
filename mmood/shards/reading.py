"""Reading shards: tar members in order, grouped to samples, counted against the index.

A sample is a run of members that share the name before the first dot (WebDataset's rule). Only regular members whose
extension is an image's, `json` or `cls` are looked at, and they stay bytes here: nothing is unpickled, executed or
written to disk, so a member's name is only ever a name.
"""

from __future__ import annotations

import contextlib
import tarfile
import zlib
from collections.abc import Container, Iterator
from dataclasses import dataclass
from typing import IO, NamedTuple

from mmood.errors import MmoodError
from mmood.shards.index import Keys, SetIndex
from mmood.shards.locations import open_stream
from mmood.shards.tar import MAX_CONTENT_BYTES, TarStream

IMAGE_EXTENSIONS = frozenset({"jpg", "jpeg", "png", "webp", "bmp", "ppm", "pgm", "gif", "tif", "tiff"})
FIELDS = IMAGE_EXTENSIONS | {"json", "cls"}

# What opening, decompressing and unpacking a damaged shard raises.
UNREADABLE = (tarfile.TarError, OSError, EOFError, zlib.error)


class ShardError(MmoodError):
    """A shard cannot be read, or ends before all samples of its index came."""


@dataclass(frozen=True, slots=True)
class RawSample:
    """A sample as its bytes.

    Attributes:
        key: position in the set.
        shard: where it was read.
        name: its name in the shard, or of its file.
        image: the encoded image, or None if the sample has no image or several.
        cls: content of the `cls` member, or None.
        json: content of the `json` member, or None.
    """

    key: int
    shard: str
    name: str
    image: bytes | None
    cls: bytes | None = None
    json: bytes | None = None


class Skipped(NamedTuple):
    """A sample that `on_error: skip` left out."""

    key: int
    shard: str
    sample: str
    reason: str


def read_shard(index: SetIndex, number: int, positions: Keys) -> Iterator[RawSample]:
    """Yield the samples at these ascending positions of a shard; the others are passed over unread.

    Whoever reads the last sample of the shard also reads on to its end and thereby finds a surplus.

    Raises:
        ShardError: the shard cannot be opened or read, or holds fewer samples than its index says.
        MmoodError: it holds more; then no key of the index can be trusted.
    """
    location, expected = index.location(number), index.shards[number].nsamples
    wanted, last = frozenset(positions.tolist()), int(positions[-1])
    first_key, seen = int(index.offsets[number]), 0
    try:
        stream = open_stream(location)
        try:
            for name, fields in tar_samples(stream, wanted):
                seen += 1
                if seen - 1 in wanted:
                    yield _sample(first_key + seen - 1, location, name, fields)
                if seen - 1 == last and seen < expected:
                    return
            while stream.read(2**16):  # tar ends before its padding does
                pass
            stream.close()  # a transfer that failed is told here
        finally:
            # Closing early ends the process behind a stream; that it was killed is no error.
            with contextlib.suppress(OSError):
                stream.close()
    except UNREADABLE as error:
        raise ShardError(f"The shard {location} cannot be read after {seen} of {expected} samples: {error}.") from error
    if seen < expected:
        raise ShardError(f"The shard {location} holds {seen} samples, and its index says {expected}.")
    if seen > expected:
        raise MmoodError(f"The shard {location} holds {seen} samples, and its index says {expected}.")


def tar_samples(stream: IO[bytes], wanted: Container[int] | None = None) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Yield (name, extension -> content) for each sample of a tar stream, in order.

    Args:
        stream: read front to back; may be compressed.
        wanted: positions whose contents are read, None for all; the others come with empty contents.

    Raises:
        tarfile.TarError, OSError: the stream is cut or no tar, a member is too large, or a sample has one extension
            twice.
    """
    name: str | None = None
    fields: dict[str, bytes] = {}
    position = -1
    tar = TarStream(stream)
    for path in tar:
        base, extension = split_name(path)
        if extension not in FIELDS:
            continue
        if base != name:
            if name is not None:
                yield name, fields
            name, fields, position = base, {}, position + 1
        if wanted is None or position in wanted:
            if extension in fields:
                raise tarfile.ReadError(f"the sample '{name}' has '{extension}' twice")
            fields[extension] = tar.content()
            if sum(map(len, fields.values())) > MAX_CONTENT_BYTES:
                raise tarfile.ReadError(f"the sample '{name}' has more than {MAX_CONTENT_BYTES} bytes")
    if name is not None:
        yield name, fields


def split_name(path: str) -> tuple[str, str]:
    """Return the name of the sample and the lower-case extension of a member.

    >>> split_name("val/n01440764_18.JPEG"), split_name("a.b.jpg")
    (('val/n01440764_18', 'jpeg'), ('a', 'b.jpg'))
    """
    folder, slash, file = path.rpartition("/")
    base, _, extension = file.partition(".")
    return folder + slash + base, extension.lower()


def _sample(key: int, shard: str, name: str, fields: dict[str, bytes]) -> RawSample:
    images = [content for extension, content in fields.items() if extension in IMAGE_EXTENSIONS]
    return RawSample(key, shard, name, images[0] if len(images) == 1 else None, fields.get("cls"), fields.get("json"))
