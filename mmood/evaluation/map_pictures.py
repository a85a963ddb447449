"""Images with the maps of local scores laid over them, as files."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
from jaxtyping import Float32, Int64

from mmood.files import write_atomically
from mmood.images.maps import overlay
from mmood.images.preprocessing import Preprocessing
from mmood.images.rgb import Exif
from mmood.loading.decoding import SampleError, decode_image
from mmood.shards.reading import RawSample, Skipped
from mmood.shards.sources import SampleSource

SIDE = 512
"""Pixels of the longer side of a picture, at most."""


@final
@dataclass(frozen=True)
class Pictures:
    """Writes images with maps laid over them.

    Attributes:
        folder: where they lie.
        preprocessing: says which part of an image the tower saw.
        limits: score -> the values at which the colours begin and end.
        exif: whether images are turned as their cameras noted.
    """

    folder: Path
    preprocessing: Preprocessing
    limits: Mapping[str, tuple[float, float]]
    exif: Exif

    def write(
        self,
        source: SampleSource,
        keys: Int64[np.ndarray, " images"],
        maps: Mapping[str, Float32[np.ndarray, "images rows columns"]],
    ) -> None:
        """Write `<key>-<name>.<score>.png` for each image that can be read again.

        Args:
            source: of the images.
            keys: of these images, ascending.
            maps: score -> their maps.
        """
        for sample in source.read(keys, skip=True):
            if isinstance(sample, Skipped):
                continue
            place = int(np.searchsorted(keys, sample.key))
            for score, values in maps.items():
                self._write_one(sample, score, values[place])

    def _write_one(self, sample: RawSample, score: str, values: Float32[np.ndarray, "rows columns"]) -> None:
        try:
            picture = decode_image(sample, self.exif)
        except SampleError:
            return
        size, box = picture.size, self.preprocessing.seen(picture.size)
        picture.thumbnail((SIDE, SIDE))
        box = box.scaled(picture.width / size[0], picture.height / size[1])
        buffer = io.BytesIO()
        overlay(picture, values, box, self.limits[score]).save(buffer, "PNG")
        stem = re.sub(r"[^\w-]+", "_", Path(sample.name).stem)[:60]
        write_atomically(self.folder / f"{sample.key:06}-{stem}.{score}.png", buffer.getvalue())
