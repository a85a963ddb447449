"""The numbers behind the pictures, against definitions written out."""

import numpy as np
import pytest

from mmood.metrics.functional import auroc, ood_metrics
from mmood.report.breakdown import by_class
from mmood.report.curves import histograms, id_threshold, risk_coverage, roc

RANDOM = np.random.default_rng(0)
ID, OOD = np.sort(RANDOM.normal(1, 1, 3000).round(2)), np.sort(RANDOM.normal(0, 1, 700).round(2))


def test_every_point_of_the_roc_is_exact_and_the_area_is_the_auroc():
    curve = roc(ID, OOD)
    thresholds = np.unique(np.r_[ID, OOD])
    exact = {(float((t <= OOD).mean()), float((t <= ID).mean())) for t in thresholds} | {(0.0, 0.0)}
    assert {(round(x, 12), round(y, 12)) for x, y in zip(*curve, strict=True)} <= {
        (round(x, 12), round(y, 12)) for x, y in exact
    }
    assert (np.diff(curve.x) >= 0).all()
    assert (np.diff(curve.y) >= 0).all()
    assert np.trapezoid(curve.y, curve.x) == pytest.approx(auroc(ID, OOD), abs=2e-3)


def test_the_threshold_is_that_of_fpr95():
    assert float((id_threshold(ID) <= OOD).mean()) == ood_metrics(ID, OOD).fpr95_id_pos


def test_histograms_count_everything_once():
    found = histograms(np.r_[-np.inf, ID, np.inf], np.r_[OOD, 1e9])
    assert found.id.sum() == pytest.approx(1)
    assert found.ood.sum() == pytest.approx(1)
    assert found.low < found.high < 100


def test_equal_scores_make_a_histogram_too():
    found = histograms(np.ones(5), np.ones(3))
    assert (found.id.max(), found.ood.max()) == (1, 1)


def test_risk_coverage_without_ties():
    curve, area = risk_coverage(np.array([4.0, 3.0, 2.0, 1.0]), np.array([True, False, True, False]))
    np.testing.assert_allclose(curve.y, [0, 1 / 2, 1 / 3, 2 / 4])
    np.testing.assert_allclose(curve.x, [0.25, 0.5, 0.75, 1])
    assert area == pytest.approx((0 + 1 / 2 + 1 / 3 + 1 / 2) / 4)


def test_risk_coverage_of_ties_is_the_mean_over_all_orders():
    scores, correct = np.array([2.0, 1.0, 1.0, 1.0]), np.array([True, False, True, False])
    orders = [[0, 1, 2, 3], [0, 1, 3, 2], [0, 2, 1, 3], [0, 2, 3, 1], [0, 3, 1, 2], [0, 3, 2, 1]]
    risks = [np.cumsum(~correct[order]) / np.arange(1, 5) for order in orders]
    curve, area = risk_coverage(scores, correct)
    np.testing.assert_allclose(curve.y, np.mean(risks, axis=0))
    assert area == pytest.approx(np.mean(risks))


def test_classes_are_measured_each_against_all_id():
    names = ["cat" if i % 3 else "dog" for i in range(len(OOD) - 1)] + [""]
    predicted = RANDOM.integers(0, 4, len(OOD))
    lines = {line.name: line for line in by_class(ID, OOD, predicted, names)}
    assert set(lines) == {"cat", "dog"}
    for name, line in lines.items():
        own = np.array([each == name for each in names])
        assert line.auroc == pytest.approx(auroc(ID, OOD[own]), abs=1e-12)
        assert line.accepted == pytest.approx(float((OOD[own] >= id_threshold(ID)).mean()))
        assert line.taken == pytest.approx(float((predicted[own] == line.taken_for).mean()))
