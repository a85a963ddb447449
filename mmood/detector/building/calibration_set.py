"""Which ID images a detector is calibrated on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mmood.data.datamodule import OoDDataModule
from mmood.detector.pictures import Picture
from mmood.errors import MmoodError
from mmood.loading.plan import held_out
from mmood.shards.index import Keys, SetIndex
from mmood.shards.reading import Skipped


@dataclass(frozen=True)
class CalibrationSet:
    """ID images that nothing was trained on.

    Attributes:
        index: of the set.
        keys: which of its images, ascending.
        source: the setting that names it.
        fraction: share of its images that was asked for.
    """

    index: SetIndex
    keys: Keys
    source: str
    fraction: float

    def images(self) -> Iterator[tuple[str, Picture]]:
        """Yield place and bytes of each image."""
        for sample in self.index.read(self.keys, skip=False):
            assert not isinstance(sample, Skipped), "nothing is skipped"
            place = f"'{sample.name}' (key {sample.key} of the set '{self.index.name}')"
            # A sample without an image is as broken as one that cannot be decoded.
            yield place, sample.image if sample.image is not None else b""

    def provenance(self) -> dict[str, object]:
        """Return what a reader needs to find the images again."""
        return {
            "set": self.index.name,
            "place": self.index.place,
            "setting": self.source,
            "index_sha256": self.index.hash,
            "fraction": self.fraction,
            "images": len(self.keys),
        }


def calibration_set(data: OoDDataModule, fraction: float) -> CalibrationSet:
    """Return the images of `data.val.id`, or of `data.id` where that is not set.

    Args:
        data: the data settings.
        fraction: share of them, chosen by a hash of the key; the rest is left for a test.

    Raises:
        MmoodError: neither is set, or it is the set that is trained on.
    """
    if data.val.id is not None:
        entry = data.id_set("validate")
        source = "data.val.id"
    else:
        entry = data.id_set("test")
        source = "data.id"
    if data.train is not None and data.train == (data.val.id or data.plan.id):
        raise MmoodError(
            f"`{source}` and `data.train` are both '{data.train}'; a threshold needs ID images that nothing was "
            "trained on, such as a share of them that is held out: --data.val.id 0.1."
        )
    keys = entry.keys if fraction == 1 else held_out(entry.keys, fraction)
    return CalibrationSet(entry.index, keys, source, fraction)
