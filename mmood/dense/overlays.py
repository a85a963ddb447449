"""Maps as pictures: the images of a set that look most like OoD, each with its map laid over it."""

from __future__ import annotations

import heapq
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int64, UInt8
from PIL import Image
from torch import Tensor

from mmood.dense.detector import DenseEvaluated
from mmood.dense.labels import OOD
from mmood.dense.scores import TARGETS
from mmood.dense.transforms import MEAN, STD
from mmood.files import write_atomically
from mmood.loading.batch import Batch
from mmood.metrics.gather import gathered_objects
from mmood.results.arrays import arrays_bytes

_EDGE, _SUSPECT = (255, 255, 255), (230.0, 30.0, 30.0)


@dataclass(frozen=True, order=True)
class _Kept:
    """An image with its maps; the most suspicious have the highest rank."""

    rank: float
    key: int
    image: UInt8[np.ndarray, "height width 3"] = field(compare=False)
    targets: Int64[np.ndarray, "height width"] = field(compare=False)
    maps: Float32[np.ndarray, "scores height width"] = field(compare=False)


class WorstImages:
    """Keeps the images that look most like OoD to the first score.

    Args:
        count: how many.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._kept: list[_Kept] = []

    def add(self, evaluated: DenseEvaluated, batch: Batch, scores: Tensor) -> None:
        """Look at a batch, with the pooled score (B, S) of each image."""
        if not self.count or not scores.shape[1]:
            return
        for place, key in enumerate(evaluated.key.tolist()):
            rank = -float(scores[place, 0])
            if len(self._kept) == self.count and rank <= self._kept[0].rank:
                continue
            kept = _Kept(
                rank,
                key,
                picture(batch["image"][place, :3]),
                evaluated.targets[place].cpu().numpy(),
                evaluated.maps[:, place].float().cpu().numpy(),
            )
            (heapq.heappush if len(self._kept) < self.count else heapq.heapreplace)(self._kept, kept)

    def gather(self) -> None:
        """Keep the most suspicious of all ranks; every rank must enter."""
        self._kept = heapq.nlargest(self.count, gathered_objects(self._kept))

    def write(self, folder: Path, names: Sequence[str], run: str) -> None:
        """Write for each image `KEY.npz` with its maps, and `KEY.SCORE.png` with each map laid over it."""
        for kept in self._kept:
            maps = dict(zip(names, kept.maps, strict=True))
            write_atomically(folder / f"{kept.key}.npz", arrays_bytes({TARGETS: kept.targets, **maps}, run))
            for name, scores in maps.items():
                picture = io.BytesIO()
                Image.fromarray(overlay(kept.image, scores, kept.targets == OOD)).save(picture, "PNG")
                write_atomically(folder / f"{kept.key}.{name}.png", picture.getvalue())


def picture(image: Tensor) -> UInt8[np.ndarray, "height width 3"]:
    """Return a normalised image (3, H, W) as pixels."""
    pixels = image.detach().float().cpu() * image.new_tensor(STD).cpu().view(3, 1, 1)
    pixels = (pixels + image.new_tensor(MEAN).cpu().view(3, 1, 1)).clamp(0, 1)
    return np.asarray((255 * pixels.movedim(0, 2)).round().numpy(), dtype=np.uint8)


def overlay(
    image: UInt8[np.ndarray, "height width 3"],
    scores: Float32[np.ndarray, "height width"],
    is_ood: np.ndarray,
) -> UInt8[np.ndarray, "height width 3"]:
    """Return the image with low scores in red, ranked within the image, and the outline of the OoD pixels in white."""
    ranks = scores.ravel().argsort(kind="stable").argsort(kind="stable").reshape(scores.shape) / max(1, scores.size - 1)
    suspicion = np.clip(1 - 2 * ranks, 0, 1)[..., None]
    grey = image.mean(axis=2, keepdims=True)
    mixed = (1 - suspicion) * grey + suspicion * np.array(_SUSPECT)
    result: UInt8[np.ndarray, "height width 3"] = mixed.round().astype(np.uint8)
    padded = np.pad(is_ood, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    result[is_ood & ~inner] = _EDGE
    return result
