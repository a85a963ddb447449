"""Which images a detector of pixels is calibrated on: those without an OoD pixel."""

from __future__ import annotations

import numpy as np

from mmood.dense.data import DenseDataModule
from mmood.dense.decoding import decode_targets
from mmood.dense.labels import OOD
from mmood.detector.building.calibration_set import CalibrationSet
from mmood.errors import MmoodError
from mmood.loading.plan import held_out
from mmood.shards.reading import Skipped


def images_without_ood(data: DenseDataModule, fraction: float) -> CalibrationSet:
    """Return the images of `data.val` whose masks have no OoD label, at the size of the masks.

    Args:
        data: the data settings.
        fraction: share of them, chosen by a hash of the key; the rest is left for a test.

    Raises:
        MmoodError: the set is not named, is the one that is trained on, has an image without a usable mask, or an OoD
            label in every mask.
    """
    data.check("validate")
    if data.val == data.train:
        raise MmoodError(
            f"`data.val` and `data.train` are both '{data.val}'; a threshold needs images that nothing was trained on."
        )
    (entry,) = data.evaluation_sets("validate").values()
    keys = entry.keys if fraction == 1 else held_out(entry.keys, fraction)
    found = []
    for sample in entry.index.read(keys, skip=False):
        assert not isinstance(sample, Skipped), "nothing is skipped"
        if not (decode_targets(sample, data.labels) == OOD).any():
            found.append(sample.key)
    if not found:
        raise MmoodError(f"Every image of `data.val`, '{data.val}', has OoD pixels; a threshold needs images without.")
    return CalibrationSet(entry.index, np.array(found, dtype=keys.dtype), "data.val, images without OoD", fraction)
