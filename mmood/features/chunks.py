"""An unfinished feature store: chunks of consecutive keys, each written whole, joined into one file at the end.

A killed run loses its unfinished chunks, one per worker. Chunks are cut and encoded in the same batches however often a
run is killed and however many ranks and workers it has, so the joined file is the same, byte for byte.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from mmood.errors import MmoodError
from mmood.features.store import TENSORS
from mmood.files import whole_file, write_atomically

_TYPES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64"}
"""The names of types in a safetensors header."""


@dataclass(frozen=True)
class ChunkPlan:
    """How a set is cut.

    Attributes:
        count: number of images of the set.
        size: images per chunk, a multiple of the batch size; the last chunk may be smaller.
        batch_size: images encoded at a time.
    """

    count: int
    size: int
    batch_size: int

    def __len__(self) -> int:
        """Return the number of chunks."""
        return -(-self.count // self.size)

    def bounds(self, chunk: int) -> tuple[int, int]:
        """Return the first key of a chunk and the key after its last."""
        return chunk * self.size, min((chunk + 1) * self.size, self.count)


class ChunkFolder:
    """The chunks of one store.

    Args:
        folder: of the store.
        plan: how the set is cut.
    """

    def __init__(self, folder: Path, plan: ChunkPlan) -> None:
        self.folder = folder
        self.chunks = folder / "parts"  # the name on disk, by which a killed run of an earlier version resumes
        self.plan = plan

    def prepare(self) -> None:
        """Keep the chunks of an earlier run with the same plan and delete those of another; for one rank only."""
        path, content = self.chunks / "plan.json", json.dumps(asdict(self.plan)).encode()
        if path.is_file() and path.read_bytes() != content:
            shutil.rmtree(self.chunks)
        write_atomically(path, content)

    def missing(self) -> list[int]:
        """Return the chunks that are still to be encoded."""
        return [chunk for chunk in range(len(self.plan)) if not self._path(chunk).is_file()]

    def write(self, chunk: int, tensors: dict[str, Tensor]) -> None:
        """Write a chunk, whole or not at all."""
        write_atomically(self._path(chunk), save({name: tensor.contiguous() for name, tensor in tensors.items()}))

    def join(self) -> str:
        """Write the chunks into the store's file of tensors, one at a time, and return its sha256 (hex).

        Raises:
            MmoodError: a chunk is missing, or its number of rows differs from the plan.
        """
        if missing := self.missing():
            raise MmoodError(
                f"Chunk {missing[0]} of the feature store {self.folder} is missing: every rank must see the same "
                "folder; set MMOOD_CACHE (or `data.features`) to one that all nodes share."
            )
        for chunk in range(len(self.plan)):
            self._check_rows(chunk)
        with whole_file(self.folder / TENSORS) as file:
            return self._write_joined(file)

    def _check_rows(self, chunk: int) -> None:
        """Delete a chunk without the planned number of rows and raise: the joined file would be corrupt."""
        start, stop = self.plan.bounds(chunk)
        with safe_open(self._path(chunk), framework="pt") as stored:
            found = {stored.get_slice(name).get_shape()[0] for name in stored.keys()}  # noqa: SIM118 - no mapping
        if found != {stop - start}:
            self._path(chunk).unlink()
            raise MmoodError(
                f"Chunk {chunk} of the feature store {self.folder} has {sorted(found)} rows for {stop - start} images. "
                "It was deleted; run the same command again to encode it."
            )

    def remove(self) -> None:
        """Delete the chunks, once the store is whole."""
        shutil.rmtree(self.chunks, ignore_errors=True)

    def _write_joined(self, file: BinaryIO) -> str:
        digest = hashlib.sha256()
        first = self._read(0)
        bodies = (content for name in first for content in self._contents(name))
        for content in chain([_header(first, self.plan.count)], bodies):
            file.write(content)
            digest.update(content)
        return digest.hexdigest()

    def _contents(self, name: str) -> Iterator[bytes | memoryview]:
        for chunk in range(len(self.plan)):
            with safe_open(self._path(chunk), framework="pt") as stored:
                yield stored.get_tensor(name).reshape(-1).view(torch.uint8).numpy().data

    def _read(self, chunk: int) -> dict[str, Tensor]:
        tensors = load_file(self._path(chunk))
        # The widest type first: then every tensor begins where its type may begin.
        return dict(sorted(tensors.items(), key=lambda entry: (-entry[1].element_size(), entry[0])))

    def _path(self, chunk: int) -> Path:
        return self.chunks / f"{chunk:06}.safetensors"


def _header(first: dict[str, Tensor], count: int) -> bytes:
    """Return the beginning of a safetensors file whose tensors have `count` rows like those of `first`.

    safetensors itself writes a file only from tensors that are in memory as a whole.
    """
    entries, end = {}, 0
    for name, tensor in first.items():
        start, end = end, end + count * tensor[0].numel() * tensor.element_size()
        shape = [count, *tensor.shape[1:]]
        entries[name] = {"dtype": _TYPES[tensor.dtype], "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
