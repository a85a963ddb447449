"""Reading shards: tar members in order, grouped to samples, counted against the index.

A sample is a run of members that share their name. The extension begins at the first dot (WebDataset's rule), or at a
later one where something stands between the dots that no field of WebDataset is called: `0001.left.jpg` is the field
`left.jpg` of the sample `0001`, `DSC.0001.jpg` is an image. Only regular members whose extension is an image's, `json`,
`cls` or `mask.png` are looked at, hidden ones (`._x.jpg`) are not, and they stay bytes here: nothing is unpickled,
executed or written to disk, so a member's name is only ever a name.
"""

from __future__ import annotations

import contextlib
import re
import tarfile
import zlib
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from typing import IO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmood.errors import MmoodError
from mmood.images.formats import IMAGE_EXTENSIONS
from mmood.shards.labels import NUMBERS, LabelSource
from mmood.shards.locations import open_stream
from mmood.shards.tar import MAX_CONTENT_BYTES, TarStream
from mmood.shards.walk import is_hidden

# A field of WebDataset in front of the last extension, such as `left` in `0001.left.jpg`.
_FIELD = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")

MASK = "mask.png"
"""The extension of a member with the label of every pixel."""

FIELDS = IMAGE_EXTENSIONS | {"json", "cls", MASK}

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
        mask: content of the `mask.png` member, or None.
    """

    key: int
    shard: str
    name: str
    image: bytes | None
    cls: bytes | None = None
    json: bytes | None = None
    mask: bytes | None = None


class Skipped(NamedTuple):
    """A sample that `on_error: skip` left out."""

    key: int
    shard: str
    sample: str
    reason: str


def read_shard(
    location: str, expected: int, first_key: int, positions: NDArray[np.int64], labels: LabelSource = NUMBERS
) -> Iterator[RawSample]:
    """Yield the samples at these ascending positions of a shard; the others are passed over unread.

    Whoever reads the last sample of the shard also reads on to its end and thereby finds a surplus.

    Args:
        location: of the shard.
        expected: number of samples that its index says it has.
        first_key: key of its first sample.
        positions: which samples.
        labels: where the samples say their class.

    Raises:
        ShardError: the shard cannot be opened or read, or holds fewer samples than its index says.
        MmoodError: it holds more; then no key of the index can be trusted.
    """
    wanted, last, seen = frozenset(positions.tolist()), int(positions[-1]), 0
    try:
        stream = open_stream(location)
        try:
            for name, fields in tar_samples(stream, wanted, fields=fields_with(labels)):
                seen += 1
                if seen - 1 in wanted:
                    yield _sample(first_key + seen - 1, location, name, fields, labels)
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
        raise ShardError(f"The shard {location} holds {seen} samples, but its index says {expected}.")
    if seen > expected:
        raise MmoodError(f"The shard {location} holds {seen} samples, but its index says {expected}.")


def _nothing(_member: str) -> None:
    """Take no notice of a member that is no part of a sample."""


def tar_samples(
    stream: IO[bytes],
    wanted: Container[int] | None = None,
    pass_over: Callable[[str], None] = _nothing,
    fields: Container[str] = FIELDS,
) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Yield (name, extension -> content) for each sample of a tar stream, in order.

    Args:
        stream: read front to back; may be compressed.
        wanted: positions whose contents are read, None for all; the others come with empty contents.
        pass_over: called with the name of each member that is no part of a sample.
        fields: extensions of the members that are.

    Raises:
        tarfile.TarError, OSError: the stream is cut or no tar, a member is too large, or a sample has one extension
            twice.
    """
    name: str | None = None
    found: dict[str, bytes] = {}
    position = -1
    tar = TarStream(stream)
    for path in tar:
        base, extension = split_name(path)
        if extension not in fields or any(map(is_hidden, path.split("/"))):
            pass_over(path)
            continue
        if base != name:
            if name is not None:
                yield name, found
            name, found, position = base, {}, position + 1
        if wanted is None or position in wanted:
            if extension in found:
                raise tarfile.ReadError(f"the sample '{name}' has '{extension}' twice")
            found[extension] = tar.content()
            if sum(map(len, found.values())) > MAX_CONTENT_BYTES:
                raise tarfile.ReadError(f"the sample '{name}' has more than {MAX_CONTENT_BYTES} bytes")
    if name is not None:
        yield name, found


def split_name(path: str) -> tuple[str, str]:
    """Return the name of the sample and the lower-case extension of a member.

    >>> split_name("val/n01440764_18.JPEG"), split_name("0001.left.jpg")
    (('val/n01440764_18', 'jpeg'), ('0001', 'left.jpg'))
    >>> split_name("DSC.0001.jpg"), split_name("img 2.0.cls")
    (('DSC.0001', 'jpg'), ('img 2.0', 'cls'))
    """
    folder, slash, file = path.rpartition("/")
    base, *parts = file.split(".")
    # The last part is an extension whatever it looks like.
    odd = [place for place, part in enumerate(parts[:-1], 1) if not _FIELD.fullmatch(part)]
    begin = odd[-1] if odd else 0
    return folder + slash + ".".join([base, *parts[:begin]]), ".".join(parts[begin:]).lower()


def fields_with(labels: LabelSource) -> Container[str]:
    """Return the extensions of the members of a sample, with that of its label."""
    return FIELDS | {labels.member}


def _sample(key: int, shard: str, name: str, fields: dict[str, bytes], labels: LabelSource) -> RawSample:
    images = [content for extension, content in fields.items() if extension in IMAGE_EXTENSIONS]
    image = images[0] if len(images) == 1 else None
    return RawSample(key, shard, name, image, labels.label(fields), fields.get("json"), fields.get(MASK))
