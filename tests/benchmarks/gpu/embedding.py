"""`mmood embed` of native-size JPEGs: what the tower could take, what the cores decode, and both together."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
import tempfile
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from gpu.clock import CUDA, DEVICE, once, seconds
from mmood.encoders import EncoderSettings, build_encoder
from mmood.encoders.base import AbstractEncoder
from mmood.features.encoding import Ranks, SetEncoder
from mmood.images.preprocessing import Resize
from mmood.loading.loader import Decoder, EvalLoader
from mmood.loading.settings import LoaderSettings
from mmood.shards.index import SetIndex
from mmood.shards.shard_index import ShardEntry, ShardIndex


@dataclass(frozen=True)
class Size:
    """Encoder, images and how often they are repeated, batch size, worker processes."""

    encoder: str = "ViT-B-16"
    images: int = 64
    repeats: int = 480
    batch: int = 256
    workers: int = len(os.sched_getaffinity(0))
    pixels: tuple[int, int] = (500, 375)


TINY = Size("ViT-S-32", 2, 1, 2, 0, (60, 40))


def photo(seed: int, size: tuple[int, int]) -> bytes:
    """Return a JPEG with the spectrum of a photograph, and about the bytes that one of ImageNet has."""
    random = np.random.default_rng(seed)
    total = np.zeros((size[1], size[0], 3))
    for step in (128, 64, 32, 16, 8, 4, 2, 1):
        coarse = random.normal(size=(max(1, size[1] // step), max(1, size[0] // step), 3)).astype(np.float32)
        channels = [
            Image.fromarray(coarse[..., channel]).resize(size, Image.Resampling.BICUBIC) for channel in range(3)
        ]
        total += np.stack([np.asarray(channel) for channel in channels], axis=2) * step**0.2
    total = 128 + 40 * total / total.std()
    buffer = io.BytesIO()
    Image.fromarray(total.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def write_set(folder: Path, size: Size) -> SetIndex:
    """Write one shard and return a set that names it several times."""
    path = folder / "photos" / "photos.tar"
    path.parent.mkdir()
    with tarfile.open(path, "w") as tar:
        for number in range(size.images):
            content = photo(number, size.pixels)
            member = tarfile.TarInfo(f"{number:06}.jpg")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    entry = ShardEntry(path.name, size.images, hashlib.sha256(path.read_bytes()).hexdigest())
    return ShardIndex("photos", (entry,) * size.repeats, root=str(folder))


def autocast() -> AbstractContextManager[object]:
    """Return bf16 on a GPU, as the precision bf16-mixed has it."""
    return torch.autocast(DEVICE.type, torch.bfloat16, enabled=CUDA)


def measure(size: Size) -> dict[str, object]:
    """Return images per second of the tower, and of decoding and both under each resize."""
    weights = None if size.encoder.startswith("local-dir:") else "random"
    encoder = build_encoder(EncoderSettings(size.encoder, weights)).to(DEVICE).eval()
    batch = torch.randn(size.batch, 3, *encoder.image_size, device=DEVICE)

    def tower() -> None:
        with torch.inference_mode(), autocast():
            encoder.encode_image(batch)

    with tempfile.TemporaryDirectory() as folder:
        index = write_set(Path(folder), size)
        return {
            "encoder": size.encoder,
            "images": index.count,
            "batch": size.batch,
            "workers": size.workers,
            "pixels": list(size.pixels),
            "bytes": (Path(folder) / "photos" / "photos.tar").stat().st_size / size.images,
            "tower": size.batch / seconds(tower),
            "by": {resize: _by(resize, encoder, index, Path(folder), size) for resize in ("pillow", "torch")},
        }


def _by(resize: Resize, encoder: AbstractEncoder, index: SetIndex, folder: Path, size: Size) -> dict[str, float]:
    """Return images per second of decoding alone, and of `embed`."""
    encoder.resize_by(resize)
    settings = LoaderSettings(workers=size.workers)

    def decode() -> None:
        decoder = Decoder(encoder.transform(), None)
        for _ in EvalLoader(index, index.keys(), decoder, size.batch, settings):
            pass

    job = SetEncoder(encoder, Ranks.alone("bf16-mixed", autocast), size.batch, settings, quiet=True)
    job.identity(index)
    return {
        "decode": index.count / once(decode),
        "embed": index.count / once(lambda: job.encode(index, folder / resize)),
    }


def lines(found: dict) -> list[str]:
    """Return the section."""
    width, height = found["pixels"]
    rows = []
    for resize, rate in found["by"].items():
        bound = min(rate["decode"], found["tower"])
        rows.append(
            f"| {resize} | {rate['decode']:,.0f} | {1000 * found['workers'] / rate['decode']:.1f} ms | "
            f"{rate['embed']:,.0f} | {rate['embed'] / bound:.0%} | {found['tower'] / rate['decode'] * found['workers']:.0f} |"
        )
    gain = found["by"]["torch"]["decode"] / found["by"]["pillow"]["decode"]
    return [
        "## Embedding: the tower waits for the cores",
        "",
        f"{found['images']:,} JPEGs of {width} x {height} pixels and {found['bytes'] / 1000:.0f} kB, {found['encoder']} in "
        f"bf16, batches of {found['batch']}, {found['workers']} workers on as many cores. The tower alone takes "
        f"{found['tower']:,.0f} images/s that are in its memory.",
        "",
        "| `data.resize` | decoded and transformed alone, images/s | of a core for each | `mmood embed`, images/s | of the "
        "slower of both | cores that this card would need |",
        "|---|--:|--:|--:|--:|--:|",
        *rows,
        "",
        f"The bound is decoding, of which torch's resize makes {gain:.2f} times as much. `embed` counts the start of the "
        "workers, the store and its checksum.",
    ]
