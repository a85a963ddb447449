"""Metrics over many scores: against the metrics of images, which have oracles of their own."""

from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mmood.errors import MmoodError
from mmood.metrics import pixels
from mmood.metrics.functional import ood_metrics
from mmood.metrics.pixels import Histogram, exact_metrics, ordered_bits

finite = st.floats(width=32, allow_nan=False)


def sides(scores, is_ood):
    return ood_metrics(scores[~is_ood], scores[is_ood])


def same(found, wanted):
    assert asdict(found) == pytest.approx(asdict(wanted), abs=1e-12)


@given(arrays(np.float32, st.integers(2, 60), elements=finite), st.integers(0, 2**32 - 1))
@settings(max_examples=200, deadline=None)
def test_exact_as_the_metrics_of_images(scores, seed):
    is_ood = np.random.default_rng(seed).random(len(scores)) < 0.4
    is_ood[:2] = True, False
    same(exact_metrics(scores, is_ood), sides(scores + np.float32(0), is_ood))


@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_ties_across_pieces(monkeypatch, chunk):
    monkeypatch.setattr(pixels, "_CHUNK", chunk)
    draw = np.random.default_rng(0)
    scores, is_ood = draw.integers(0, 9, 500).astype(np.float32), draw.random(500) < 0.3
    same(exact_metrics(scores, is_ood), sides(scores, is_ood))


def test_order_of_all_kinds_of_numbers():
    values = np.array(
        [-np.inf, -3e38, -1, -1e-45, 0, 1e-45, 1, np.nextafter(np.float32(1), 2), 3e38, np.inf], np.float32
    )
    assert (np.diff(ordered_bits(values).astype(np.int64)) > 0).all()
    assert ordered_bits(np.array([-0.0], np.float32)) == ordered_bits(np.array([0.0], np.float32))


def test_a_histogram_of_values_that_are_bins_is_exact():
    draw = np.random.default_rng(1)
    scores, is_ood = (draw.integers(-500, 500, 4000) / 4).astype(np.float32), draw.random(4000) < 0.2
    histogram = Histogram()
    histogram.add(scores, is_ood)
    same(histogram.metrics(), sides(scores, is_ood))


def test_two_histograms_are_one_and_the_error_is_bounded():
    draw = np.random.default_rng(2)
    scores, is_ood = draw.normal(size=20_000).astype(np.float32), draw.random(20_000) < 0.3
    scores[is_ood] -= 0.7
    whole, left, right = Histogram(bits=12), Histogram(bits=12), Histogram(bits=12)
    whole.add(scores, is_ood)
    left.add(scores[:6000], is_ood[:6000])
    right.add(scores[6000:], is_ood[6000:])
    left.merge(right)
    assert (left.counts == whole.counts).all()
    difference = abs(whole.metrics().auroc - sides(scores, is_ood).auroc)
    assert 0 < difference <= whole.auroc_error() < 0.01


@pytest.mark.parametrize("metrics", [exact_metrics, lambda scores, ood: Histogram().add(scores, ood)])
def test_nan_is_refused(metrics):
    with pytest.raises(MmoodError, match="1 of the 2 scores are NaN"):
        metrics(np.array([0.0, np.nan], np.float32), np.array([True, False]))


def test_both_sides_are_needed():
    with pytest.raises(MmoodError, match="no OoD scores"):
        exact_metrics(np.zeros(3, np.float32), np.zeros(3, bool))
    with pytest.raises(MmoodError, match="no ID scores"):
        exact_metrics(np.zeros(3, np.float32), np.ones(3, bool))
    with pytest.raises(MmoodError, match="no ID scores"):
        Histogram().metrics()
