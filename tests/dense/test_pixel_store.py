"""The pixels of a set: exact and counted, against all pixels laid out flat."""

import numpy as np
import pytest
import torch

from mmood.dense.detector import DenseEvaluated
from mmood.dense.labels import IGNORED, OOD
from mmood.dense.pixel_store import PixelStore
from mmood.errors import MmoodError
from mmood.metrics.components import component_metrics
from mmood.metrics.functional import ood_metrics

CLASSES = 3


def batches():
    draw = torch.Generator().manual_seed(0)
    for size in (3, 1, 0, 2):
        targets = torch.randint(IGNORED, CLASSES, (size, 9, 11), generator=draw)
        predicted = torch.randint(0, CLASSES, (size, 9, 11), generator=draw)
        maps = torch.randn(2, size, 9, 11, generator=draw) + (targets >= 0)
        yield DenseEvaluated(torch.arange(size), targets, predicted, maps.round(decimals=1))


def flat():
    found = list(batches())
    return (
        torch.cat([one.targets for one in found]).numpy(),
        torch.cat([one.predicted for one in found]).numpy(),
        torch.cat([one.maps for one in found], dim=1).numpy(),
    )


def filled(exact):
    store = PixelStore(("a", "b"), CLASSES, exact, (True, False))
    for batch in batches():
        store.add(batch)
    store.gather(torch.device("cpu"))
    return store


@pytest.mark.parametrize("exact", [True, False])
def test_both_conventions_pool_all_pixels(exact):
    targets, predicted, maps = flat()
    for place, found in enumerate(filled(exact).metrics().values()):
        scores, is_id = maps[place], targets >= 0
        right = (predicted == targets) & is_id
        # Scores of one decimal do not share bins, so counts lose nothing.
        assert found.ood.auroc == pytest.approx(ood_metrics(scores[is_id], scores[targets == OOD]).auroc, abs=1e-12)
        wanted = ood_metrics(scores[right], scores[is_id & ~right])
        assert found.errors.fpr95_id_pos == wanted.fpr95_id_pos
        assert found.errors.aupr_ood == pytest.approx(wanted.aupr_ood, abs=1e-12)
        assert found.ood.n_id == is_id.sum()
        assert found.ood.n_ood == (targets == OOD).sum()


def test_intersection_over_union():
    targets, predicted, _ = flat()
    counted = targets >= 0
    for c, iou in filled(False).intersection_over_union().items():
        a, b = (targets == c) & counted, (predicted == c) & counted
        assert iou == (a & b).sum() / (a | b).sum()


def test_components_at_the_best_threshold():
    targets, _, maps = flat()
    counted, is_ood = targets != IGNORED, targets == OOD
    thresholds = np.unique(maps[0][counted])

    def f1(threshold):
        found = (maps[0] <= threshold) & counted
        return 2 * (found & is_ood).sum() / (found.sum() + is_ood.sum())

    best = max(thresholds, key=f1)
    wanted = component_metrics((is_ood[i], maps[0][i] <= best, counted[i]) for i in range(len(targets)))
    assert filled(True).components("a", 1) == wanted
    assert filled(False).components("a", 1) is None


def test_rejected_pixels_of_classes():
    targets, _, maps = flat()
    is_id = targets >= 0
    store = filled(True)
    for place, name in enumerate(store.names):
        found, scores = store.rejected(name), maps[place]
        # The largest threshold that accepts 95 % of the ID pixels.
        kept = [value for value in np.unique(scores) if (scores[is_id] >= value).mean() >= 0.95]
        assert found.threshold == max(kept)
        wanted = {c: (scores[targets == c] < max(kept)).mean() for c in (OOD, *range(CLASSES))}
        assert found.shares == pytest.approx(wanted)
        assert 1 - found.shares[OOD] == pytest.approx(store.metrics()[name].ood.fpr95_id_pos)
    assert filled(False).rejected("a") is None


def test_a_set_without_ood_has_one_convention():
    store = PixelStore(("a",), CLASSES, True, (False,))
    one = next(batches())
    store.add(DenseEvaluated(one.key, one.targets.clamp(min=0), one.predicted, one.maps[:1]))
    store.gather(torch.device("cpu"))
    found = store.metrics()["a"]
    assert found.ood is None
    assert found.errors is not None


def test_nan_is_refused():
    one = next(batches())
    one.maps[1, 0, 0, 0] = torch.nan
    with pytest.raises(MmoodError, match="'b' is NaN"):
        PixelStore(("a", "b"), CLASSES, True, (False, False)).add(one)
