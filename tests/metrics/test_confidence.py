"""Calibration errors: against sums written out, and where they must vanish."""

import numpy as np
import pytest

from mmood.metrics.confidence import Confidences


def literal_ece(confidence, correct, bins):
    total = 0.0
    for b in range(bins):
        low, high = b / bins, (b + 1) / bins
        inside = (confidence >= low) & ((confidence < high) | (b == bins - 1))
        total += abs(correct[inside].sum() - confidence[inside].sum())
    return total / len(confidence)


def test_expected_error_as_defined():
    draw = np.random.default_rng(0)
    confidence = draw.random(50_000)
    correct = draw.random(50_000) < confidence**2
    table = Confidences()
    table.add(confidence, correct)
    assert table.ece(16) == pytest.approx(literal_ece(confidence, correct, 16), abs=1e-9)
    assert table.ece() == pytest.approx(literal_ece(confidence, correct, 15), abs=2e-4)


def test_adaptive_error_as_defined():
    draw = np.random.default_rng(1)
    confidence = draw.beta(5, 1, 60_000)
    correct = draw.random(60_000) < 0.6
    table = Confidences()
    table.add(confidence, correct)
    order = np.argsort(confidence)
    parts = np.array_split(order, 15)
    wanted = np.mean([abs(correct[part].mean() - confidence[part].mean()) for part in parts])
    assert table.ace() == pytest.approx(wanted, abs=3e-3)


def test_groups_each_have_their_own_bins_and_merge():
    draw = np.random.default_rng(2)
    confidence, group = draw.random(4000), draw.integers(0, 3, 4000)
    correct = draw.random(4000) < 0.5
    whole, left, right, alone = Confidences(4), Confidences(4), Confidences(4), []
    whole.add(confidence, correct, group)
    left.add(confidence[:900], correct[:900], group[:900])
    right.add(confidence[900:], correct[900:], group[900:])
    left.merge(right)
    for g in range(3):
        alone.append(Confidences())
        alone[-1].add(confidence[group == g], correct[group == g])
    assert left.ace() == pytest.approx(whole.ace()) == pytest.approx(np.mean([one.ace() for one in alone]))


def test_calibrated_confidence_has_no_error():
    table = Confidences()
    table.add(np.full(1000, 0.75), np.arange(1000) % 4 < 3)
    assert table.ece() == table.ace() == 0
