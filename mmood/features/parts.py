"""A feature store in the making: parts by runs of keys, each whole or not there, joined into one file at the end.

A killed run loses the parts that were under way, one per worker. Parts are cut and encoded in the same batches however
often a run is killed and however many ranks and workers it has, so the joined file is the same, byte for byte.
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
class PartPlan:
    """How a set is cut.

    Attributes:
        count: number of images of the set.
        size: images per part, a multiple of the batch size; the last part may be smaller.
        batch_size: images encoded at a time.
    """

    count: int
    size: int
    batch_size: int

    def __len__(self) -> int:
        """Return the number of parts."""
        return -(-self.count // self.size)

    def bounds(self, part: int) -> tuple[int, int]:
        """Return the first key of a part and the one behind its last."""
        return part * self.size, min((part + 1) * self.size, self.count)


class PartFolder:
    """The parts of one store.

    Args:
        folder: of the store.
        plan: how the set is cut.
    """

    def __init__(self, folder: Path, plan: PartPlan) -> None:
        self.folder = folder
        self.parts = folder / "parts"
        self.plan = plan

    def prepare(self) -> None:
        """Keep the parts of an earlier run with the same plan and delete those of another; for one rank only."""
        path, content = self.parts / "plan.json", json.dumps(asdict(self.plan)).encode()
        if path.is_file() and path.read_bytes() != content:
            shutil.rmtree(self.parts)
        write_atomically(path, content)

    def missing(self) -> list[int]:
        """Return the parts that are still to be encoded."""
        return [part for part in range(len(self.plan)) if not self._path(part).is_file()]

    def write(self, part: int, tensors: dict[str, Tensor]) -> None:
        """Write a part, whole or not at all."""
        write_atomically(self._path(part), save({name: tensor.contiguous() for name, tensor in tensors.items()}))

    def join(self) -> str:
        """Write the parts into the store's file of tensors, one at a time, and return its sha256 (hex).

        Raises:
            MmoodError: a part is not there, or has another number of rows than the plan.
        """
        if missing := self.missing():
            raise MmoodError(
                f"Part {missing[0]} of the feature store {self.folder} is missing: every rank must see the same "
                "folder; set MMOOD_CACHE (or `data.features`) to one that all nodes share."
            )
        for part in range(len(self.plan)):
            self._check_rows(part)
        with whole_file(self.folder / TENSORS) as file:
            return self._write_joined(file)

    def _check_rows(self, part: int) -> None:
        """Delete a part that has not the rows of the plan, and say so: the file would be torn behind it."""
        start, stop = self.plan.bounds(part)
        with safe_open(self._path(part), framework="pt") as stored:
            found = {stored.get_slice(name).get_shape()[0] for name in stored.keys()}  # noqa: SIM118 - no mapping
        if found != {stop - start}:
            self._path(part).unlink()
            raise MmoodError(
                f"Part {part} of the feature store {self.folder} has {sorted(found)} rows, and {stop - start} images; "
                "it is deleted, and the same command encodes it anew."
            )

    def remove(self) -> None:
        """Delete the parts, once the store is whole."""
        shutil.rmtree(self.parts, ignore_errors=True)

    def _write_joined(self, file: BinaryIO) -> str:
        digest = hashlib.sha256()
        first = self._read(0)
        bodies = (content for name in first for content in self._contents(name))
        for content in chain([_header(first, self.plan.count)], bodies):
            file.write(content)
            digest.update(content)
        return digest.hexdigest()

    def _contents(self, name: str) -> Iterator[bytes | memoryview]:
        for part in range(len(self.plan)):
            with safe_open(self._path(part), framework="pt") as stored:
                yield stored.get_tensor(name).reshape(-1).view(torch.uint8).numpy().data

    def _read(self, part: int) -> dict[str, Tensor]:
        tensors = load_file(self._path(part))
        # The widest type first: then every tensor begins where its type may begin.
        return dict(sorted(tensors.items(), key=lambda entry: (-entry[1].element_size(), entry[0])))

    def _path(self, part: int) -> Path:
        return self.parts / f"{part:06}.safetensors"


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
