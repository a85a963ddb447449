"""Purity of the memory of a stream score, which needs the labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
from jaxtyping import Bool, Int

Side = Literal["id", "ood"]
SIDES: tuple[Side, ...] = ("id", "ood")


def purity(
    members: Mapping[Side, Int[np.ndarray, " kept"]], ood: Bool[np.ndarray, " images"]
) -> dict[str, dict[str, int | float | None]]:
    """Return how many images the memory takes for ID and for OoD, and which share of them is.

    Args:
        members: places in the stream of the images on each side.
        ood: whether the image at each place is OoD.

    Returns:
        Side -> `kept` (number) and `pure` (share in [0, 1]; None where nothing is kept).

    >>> purity({"id": np.array([0, 2]), "ood": np.array([], dtype=int)}, np.array([False, True, True]))
    {'id': {'kept': 2, 'pure': 0.5}, 'ood': {'kept': 0, 'pure': None}}
    """
    truly = {"id": ~ood, "ood": ood}
    return {side: _side(truly[side][members[side]]) for side in SIDES}


def _side(right: Bool[np.ndarray, " kept"]) -> dict[str, int | float | None]:
    return {"kept": len(right), "pure": float(right.mean()) if len(right) else None}
