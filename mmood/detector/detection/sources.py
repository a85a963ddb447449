"""What `mmood detect` reads: files, folders, patterns, lists and shards, as one numbered sequence of images."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import final

import numpy as np

from mmood.data.predict import input_files, listed_file
from mmood.errors import MmoodError
from mmood.files import user_path, utf8_name
from mmood.shards.passed_over import PassedOver
from mmood.shards.reading import Skipped
from mmood.shards.shard_index import INDEX_FILE, load_index
from mmood.shards.sources import FileSource, InputFile, SampleSource

STDIN = "-"


@dataclass(frozen=True)
class Input:
    """An image of the sequence: what a row calls it, and its bytes, or why they cannot be had."""

    name: str
    content: bytes | None
    reason: str = ""


@final
@dataclass(frozen=True)
class Images:
    """Images of one input.

    Attributes:
        names: what the rows call them.
        source: reads them by their number.
        identity: what names them besides their names.
    """

    names: Sequence[str]
    source: SampleSource
    identity: str = ""

    def read(self, start: int, stop: int) -> Iterator[Input]:
        """Yield the images from `start` to before `stop`; one that cannot be read comes with the reason."""
        for sample in self.source.read(np.arange(start, stop, dtype=np.int64), skip=True):
            name = self.names[sample.key]
            if isinstance(sample, Skipped):
                yield Input(name, None, sample.reason)
            elif sample.image is None:
                yield Input(name, None, "the sample has no image, or several")
            else:
                yield Input(name, sample.image)


@final
class Sequenced:
    """The images of several inputs, one after another."""

    def __init__(self, inputs: Sequence[Images]) -> None:
        self.inputs = inputs
        self._ends = list(accumulate(len(images.names) for images in inputs))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def read(self, start: int, stop: int) -> Iterator[Input]:
        """Yield the images from `start` to before `stop`."""
        number = bisect_right(self._ends, start)
        while start < stop:
            first = self._ends[number] - len(self.inputs[number].names)
            end = min(stop, self._ends[number])
            if end > start:
                yield from self.inputs[number].read(start - first, end - first)
            start, number = end, number + 1

    @property
    def sha256(self) -> str:
        """The sha256 (hex) of what names all images and their order."""
        digest = hashlib.sha256()
        for images in self.inputs:
            for line in (images.identity, *images.names):
                digest.update(line.encode() + b"\n")
        return digest.hexdigest()


def find_images_of(inputs: Sequence[str], stdin: Iterable[str]) -> tuple[Sequenced, PassedOver]:
    """Return the images that the inputs name, in the order in which they are named, and what is passed over.

    An input is a folder of shards (with an `index.json`), `-` for paths on stdin, one a line, or whatever
    `data.predict` takes: a file, a folder, a pattern, a list. What a list names is always an input, there or not.

    Raises:
        MmoodError: an input names nothing, or there is no image at all.
    """
    passed_over = PassedOver()
    found = Sequenced([_images(name, stdin, passed_over) for name in inputs])
    if not len(found):
        raise MmoodError(f"There is no image in {utf8_name(', '.join(inputs))}. {passed_over}".rstrip())
    return found, passed_over


def images_to_check(inputs: Sequence[str] | None, provenance: Mapping[str, object]) -> Iterator[bytes]:
    """Yield the bytes of images that can be read; without inputs those of the set that a detector was calibrated on.

    Raises:
        MmoodError: there are no inputs, and that set is not where it was.
    """
    if inputs is None:
        record = provenance.get("calibration")
        place = record.get("place") if isinstance(record, Mapping) else None
        if not isinstance(place, str):
            raise MmoodError("The detector does not say which images it was calibrated on; give images with --images.")
        if not Path(place).is_dir():
            raise MmoodError(f"The detector was calibrated on {place}, which is no folder here; give --images.")
        inputs = [place]
    found, _ = find_images_of(inputs, [])
    return (image.content for image in found.read(0, len(found)) if image.content is not None)


def _images(name: str, stdin: Iterable[str], passed_over: PassedOver) -> Images:
    if name == STDIN:
        return _of_files([listed_file(line.rstrip("\r\n"), Path()) for line in stdin if line.strip()])
    path = user_path(name)
    if (path / INDEX_FILE).is_file():
        index = load_index(str(path.resolve().parent), path.resolve().name)
        names = [f"{index.name}/{row.sample}" for row in index.rows()]
        return Images(names, index, index.hash)
    if path.suffix == ".tar":
        raise MmoodError(f"{name} is a shard; give the folder of its set, indexed by `mmood pack --index FOLDER`.")
    files = input_files(name, passed_over)
    if files is None:
        raise MmoodError(f"There is no file or folder '{utf8_name(name)}', and no file matches it as a pattern.")
    return _of_files(files)


def _of_files(files: Sequence[InputFile]) -> Images:
    return Images([utf8_name(str(file.path)) for file in files], FileSource(files))
