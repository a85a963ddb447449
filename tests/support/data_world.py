"""Small sets of shards, and transforms that spawned workers can import."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mmood.loading.loader import Decoder, EvalLoader
from mmood.loading.settings import LoaderSettings
from mmood.shards.shard_index import ShardEntry, ShardIndex, load_index, save_index

SIZE = 4
CLASSES = 5
IN_PROCESS = LoaderSettings(workers=0)


def to_tensor(image: Image.Image) -> Tensor:
    """(3, 4, 4) in [0, 1]."""
    resized = image if image.size == (SIZE, SIZE) else image.resize((SIZE, SIZE))
    return torch.from_numpy(np.array(resized)).permute(2, 0, 1).float() / 255


def noisy(image: Image.Image) -> Tensor:
    """An augmentation that draws from torch's global generator."""
    return to_tensor(image) + torch.rand(1)


def png(value: int) -> bytes:
    """A picture of the number: red and green are its two low bytes."""
    pixels = np.zeros((SIZE, SIZE, 3), dtype=np.uint8)
    pixels[..., 0], pixels[..., 1] = value % 256, value // 256
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def number_of(image: Tensor) -> int:
    """The number that `png` drew."""
    return round(float(image[0, 0, 0]) * 255) + 256 * round(float(image[1, 0, 0]) * 255)


def tar_bytes(members: list[tuple[str, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def members_of(keys: range, labelled: bool) -> list[tuple[str, bytes]]:
    members = []
    for key in keys:
        members.append((f"s{key:04d}.png", png(key)))
        members.append((f"s{key:04d}.json", b'{"name": "thing", "source": "made"}'))
        if labelled:
            members.append((f"s{key:04d}.cls", str(key % CLASSES).encode()))
    return members


def write_set(root: Path, name: str, sizes: list[int], labelled: bool = True) -> ShardIndex:
    """Shards of these sizes with an index; sample k is a picture of the number k, its label k modulo CLASSES."""
    folder = root / name
    folder.mkdir(parents=True)
    entries, first = [], 0
    for number, size in enumerate(sizes):
        content = tar_bytes(members_of(range(first, first + size), labelled))
        (folder / f"{name}-{number}.tar").write_bytes(content)
        entries.append(ShardEntry(f"{name}-{number}.tar", size, hashlib.sha256(content).hexdigest()))
        first += size
    save_index(ShardIndex(name, tuple(entries), classes=CLASSES if labelled else None, root=str(root)), folder)
    return load_index(str(root), name)


def rewrite_shard(index: ShardIndex, number: int, members: list[tuple[str, bytes]]) -> None:
    """Replace a shard's content behind the back of its index."""
    Path(index.location(number)).write_bytes(tar_bytes(members))


def eval_loader(
    index: ShardIndex,
    batch_size: int = 4,
    rank: int = 0,
    world: int = 1,
    settings: LoaderSettings = IN_PROCESS,
    classes: int | None = CLASSES,
) -> EvalLoader:
    return EvalLoader(index, index.keys(), Decoder(to_tensor, classes), batch_size, settings, rank, world)
