"""Component metrics: against the definition, read off image by image with sets of pixels."""

import numpy as np
import pytest

from mmood.errors import MmoodError
from mmood.metrics.components import THRESHOLDS, component_metrics


def components(mask):
    """Return the components as sets of pixels, by flooding: no library."""
    left, found = {tuple(p) for p in np.argwhere(mask)}, []
    while left:
        front = [left.pop()]
        component = set(front)
        while front:
            y, x = front.pop()
            near = {(y + a, x + b) for a in (-1, 0, 1) for b in (-1, 0, 1)} & left
            left -= near
            component |= near
            front += near
        found.append(component)
    return found


def literal(images, smallest):
    siou, ppv = [], []
    for is_ood, predicted, counted in images:
        true = components(is_ood & counted)
        found = [c for c in components(predicted & counted) if len(c) >= smallest]
        everywhere = set().union(*true)
        for k in true:
            union = set().union(*(c for c in found if c & k))
            siou.append(len(k & union) / len((k | union) - (everywhere - k)))
        ppv += [len(c & everywhere) / len(c) for c in found]
    f1 = []
    for t in THRESHOLDS:
        tp, fn, fp = sum(s > t for s in siou), sum(s <= t for s in siou), sum(p <= t for p in ppv)
        f1.append(2 * tp / (2 * tp + fn + fp))
    return np.mean(siou), np.mean(ppv), np.mean(f1)


@pytest.mark.parametrize("smallest", [1, 4])
def test_as_defined(smallest):
    draw = np.random.default_rng(3)
    images = [
        (draw.random((14, 17)) < 0.2, draw.random((14, 17)) < 0.25, draw.random((14, 17)) < 0.9) for _ in range(8)
    ]
    # Larger objects, partly found.
    square = np.zeros((14, 17), bool)
    square[2:9, 3:9] = True
    images.append((square, np.roll(square, 2, axis=1), np.ones_like(square)))
    found = component_metrics(images, smallest)
    assert (found.siou, found.ppv, found.f1) == pytest.approx(literal(images, smallest))


def test_perfect_and_empty_predictions():
    mask = np.zeros((6, 6), bool)
    mask[1:3, 1:3] = mask[4, 4] = True
    everything = np.ones_like(mask)
    perfect = component_metrics([(mask, mask, everything)])
    assert (perfect.n, perfect.siou, perfect.ppv, perfect.f1) == (2, 1, 1, 1)
    nothing = component_metrics([(mask, ~everything, everything)])
    assert (nothing.n_predicted, nothing.siou, nothing.ppv, nothing.f1) == (0, 0, 0, 0)


def test_no_component():
    empty = np.zeros((4, 4), bool)
    with pytest.raises(MmoodError, match="no component"):
        component_metrics([(empty, ~empty, ~empty)])
