"""Metrics of connected components, as SegmentMeIfYouCan defines them (arXiv 2104.14812): which objects are found.

A component is a maximal set of pixels that touch by a side or a corner. For a component k of the OoD pixels, with K(k)
the union of the predicted components that meet it and A(k) the OoD pixels of other components,

    sIoU(k) = |k and K(k)| / |(k or K(k)) without A(k)|,

and for a predicted component the PPV is the share of its pixels that are OoD. At a threshold t, components with sIoU >
t are found, the others missed, and predicted components with PPV <= t are false alarms.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64
from scipy import ndimage

from mmood.errors import MmoodError

THRESHOLDS = tuple(round(0.25 + 0.05 * step, 2) for step in range(11))
"""The eleven thresholds over which F1 is averaged: 0.25 to 0.75."""

_NEIGHBOURS = np.ones((3, 3), dtype=int)


@dataclass(frozen=True, kw_only=True)
class ComponentMetrics:
    """Component metrics of one score on one set, each in [0, 1].

    Attributes:
        n: number of components of OoD pixels.
        n_predicted: number of predicted components.
        siou: mean sIoU over the components.
        ppv: mean PPV over the predicted components; 0 without any.
        f1: mean over `THRESHOLDS` of F1.
    """

    n: int
    n_predicted: int
    siou: float
    ppv: float
    f1: float


def component_metrics(
    images: Iterable[tuple[Bool[np.ndarray, "h w"], Bool[np.ndarray, "h w"], Bool[np.ndarray, "h w"]]],
    smallest: int = 1,
) -> ComponentMetrics:
    """Return the component metrics over all images of a set.

    Args:
        images: for each image which pixels are OoD, which are predicted to be, and which count at all; pixels that do
            not count belong to no component.
        smallest: predicted components of fewer pixels are dropped; 500 in the anomaly track of the benchmark.

    Raises:
        MmoodError: no image has an OoD pixel.
    """
    siou: list[float] = []
    ppv: list[float] = []
    for is_ood, predicted, counted in images:
        of_image = _of_image(is_ood & counted, predicted & counted, smallest)
        siou += of_image[0].tolist()
        ppv += of_image[1].tolist()
    if not siou:
        raise MmoodError("No image has an OoD pixel, so there is no component to find.")
    return ComponentMetrics(
        n=len(siou),
        n_predicted=len(ppv),
        siou=float(np.mean(siou)),
        ppv=float(np.mean(ppv)) if ppv else 0.0,
        f1=float(np.mean([_f1(np.array(siou), np.array(ppv), threshold) for threshold in THRESHOLDS])),
    )


def _of_image(
    is_ood: Bool[np.ndarray, "h w"], predicted: Bool[np.ndarray, "h w"], smallest: int
) -> tuple[Float64[np.ndarray, " components"], Float64[np.ndarray, " predicted"]]:
    """Return the sIoU of each component and the PPV of each predicted component."""
    true, n_true = ndimage.label(is_ood, structure=_NEIGHBOURS)
    found, n_found = ndimage.label(predicted, structure=_NEIGHBOURS)
    # (n_true + 1, n_found + 1) pixels that a true and a predicted component share; 0 stands for none.
    shared = np.zeros((n_true + 1, n_found + 1), dtype=np.int64)
    np.add.at(shared, (true.ravel(), found.ravel()), 1)
    sizes = shared.sum(axis=0)
    kept = np.flatnonzero(sizes[1:] >= smallest) + 1
    sizes, shared = sizes[kept], np.column_stack([shared[:, kept], shared.sum(axis=1) - shared[:, kept].sum(axis=1)])
    overlaps = shared[1:, :-1]
    meets = overlaps > 0
    own = shared[1:].sum(axis=1)
    # Predicted pixels that meet k, minus those on other components: what of K(k) lies on k or on no component at all.
    outside = meets @ shared[0, :-1]
    siou = overlaps.sum(axis=1) / (own + outside)
    return siou, overlaps.sum(axis=0) / sizes


def _f1(siou: Float64[np.ndarray, " components"], ppv: Float64[np.ndarray, " predicted"], threshold: float) -> float:
    found, missed, false = (siou > threshold).sum(), (siou <= threshold).sum(), (ppv <= threshold).sum()
    return float(2 * found / (2 * found + missed + false))
