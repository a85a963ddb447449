"""Thresholds and p-values: what they promise, by brute force."""

import re
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from mmood.detector.calibration import (
    benjamini_hochberg,
    calibrate,
    coverage_band,
    least_images,
    rank_of,
    ties_at_threshold,
)
from mmood.errors import MmoodError


@pytest.mark.parametrize("recall", [0.5, 0.8, 0.9, 0.95, 0.99])
def test_the_decision_is_that_of_the_p_value(recall):
    generator = np.random.default_rng(0)
    for n in (least_images(recall) + 1, least_images(recall) + 7, 150):
        # Few values, so that ties abound.
        calibration = calibrate(generator.integers(0, 9, n).astype(np.float32), recall)
        scores = np.arange(-1, 10, 0.5).astype(np.float32)
        for score, p_value, accepted in zip(
            scores, calibration.p_values(scores), calibration.accepts(scores), strict=True
        ):
            exact = Fraction(1 + int((calibration.scores <= score).sum()), n + 1)
            assert p_value == pytest.approx(float(exact))
            assert accepted == (exact > 1 - Fraction(str(recall)))


@pytest.mark.parametrize(("n", "recall"), [(19, 0.95), (20, 0.95), (39, 0.95), (9, 0.9), (60, 0.9)])
def test_the_accepted_share_over_all_orders_is_at_least_the_recall(n, recall):
    """Exchangeable scores without ties: the new one has each of n + 1 ranks once."""
    accepted = 0
    for new in range(n + 1):
        calibration = calibrate(np.delete(np.arange(n + 1), new).astype(np.float32), recall)
        accepted += bool(calibration.accepts(np.float32([new]))[0])
    assert accepted / (n + 1) >= recall
    assert accepted / (n + 1) == pytest.approx(coverage_band(n, recall).mean)


def test_p_values_of_id_images_are_uniform_and_ties_only_make_them_larger():
    """Over the draw of calibration and new image together; with one calibration they share its error."""
    generator = np.random.default_rng(1)
    for values in (None, 6):
        p_values = []
        for _ in range(2000):
            scores = generator.normal(size=30) if values is None else generator.integers(0, values, 30)
            p_values += calibrate(scores[:-1].astype(np.float32), 0.9).p_values(scores[-1:].astype(np.float32)).tolist()
        for level in np.arange(1, 31) / 30:
            share = np.mean(np.array(p_values) <= level + 1e-12)
            expected, slack = level, 4 * np.sqrt(0.25 / 2000)
            assert share <= expected + slack
            if values is None:
                assert share >= expected - slack


def test_the_band_holds_what_it_says():
    """200 splits of one pool: the share of them inside the central 95 % band."""
    generator = np.random.default_rng(2)
    n, new, inside = 100, 300, 0
    band = coverage_band(n, 0.95, new)
    for _ in range(200):
        scores = generator.normal(size=n + new).astype(np.float32)
        share = calibrate(scores[:n], 0.95).accepts(scores[n:]).mean()
        inside += band.low <= share <= band.high
    assert stats.binomtest(inside, 200, 0.95).pvalue > 1e-3
    endless = coverage_band(n, 0.95)
    assert band.low < endless.low < 0.95 < endless.high < band.high


def test_few_images_are_refused_or_named():
    assert (least_images(0.95), rank_of(18, 0.95), rank_of(19, 0.95)) == (19, 0, 1)
    scores = np.arange(18, dtype=np.float32)
    with pytest.raises(MmoodError, match=r"18 ID images are too few .* fewer than 19 "):
        calibrate(scores, 0.95)
    assert calibrate(np.arange(19, dtype=np.float32), 0.95).threshold == 0
    assert coverage_band(19, 0.95).useless(0.95)
    assert not coverage_band(2500, 0.95).useless(0.95)


@pytest.mark.parametrize(
    ("floor", "low", "n", "recall", "said"),
    [
        (40, 0, 100, 0.95, r"^40 of the 100 .*, 0\.5, and 0 a lower one, so 0\.0% .* in place of the 5\.0% .* 40\.0% "),
        (9, 0, 19, 0.95, r"^9 of the 19 .* so 0\.0% "),  # one image is the fewest that 5 % of 19 can be
        (300, 40, 1999, 0.95, r"^300 of the 1999 .* 40 a lower one, so 2\.0% .* 17\.0% "),
        (60, 40, 100, 0.4, r"^60 of the 100 .* so 40\.0% .* 60\.0% asked for: .* there is no higher one\."),
    ],
)
def test_ties_that_change_what_the_threshold_rejects_are_said_with_what_would_be_right(floor, low, n, recall, said):
    """A floor that images share (or, with nothing above, a ceiling), some scores below it and the rest above."""
    scores = np.full(n, 0.5, dtype=np.float32)
    scores[:low] = np.linspace(0, 0.4, low)
    scores[low + floor :] = np.linspace(0.6, 1, n - low - floor)
    calibration = calibrate(scores, recall)
    sentence = ties_at_threshold(calibration)
    assert re.search(said, sentence)
    assert calibration.threshold == 0.5
    assert (calibration.below, calibration.at_threshold) == (sum(scores < 0.5), sum(scores == 0.5)) == (low, floor)
    assert calibration.accepts(scores).sum() == n - low, "images at the threshold are accepted, as they were counted"
    if found := re.search(r"id_recall ([\d.]+)", sentence):
        higher = calibrate(scores, float(found[1]))
        assert higher.threshold == pytest.approx(0.6)
        assert higher.below == low + floor


def test_ties_that_change_nothing_are_not_said():
    assert ties_at_threshold(calibrate(np.arange(100, dtype=np.float32), 0.95)) is None
    few = np.arange(1000, dtype=np.float32)
    few[48:51] = 48
    assert (calibrate(few, 0.95).at_threshold, calibrate(few, 0.95).below) == (3, 48)
    assert ties_at_threshold(calibrate(few, 0.95)) is None
    above = np.concatenate([np.arange(50), np.full(50, 99)]).astype(np.float32)
    assert ties_at_threshold(calibrate(above, 0.95)) is None


@pytest.mark.parametrize(
    ("scores", "recall", "said"),
    [
        (np.ones(40), 0.95, "All 40 ID images have the score 1"),
        (np.array([1.0, np.nan] * 20), 0.95, "The score of ID image 1 is nan"),
        (np.array([1.0, np.inf] * 20), 0.95, "The score of ID image 1 is inf"),
        (np.arange(40), 1.0, "id_recall is 1.0; it must be a finite number"),
    ],
)
def test_scores_without_a_threshold_are_refused(scores, recall, said):
    with pytest.raises(MmoodError, match=said):
        calibrate(scores.astype(np.float32), recall)


def test_benjamini_hochberg_is_scipys():
    generator = np.random.default_rng(3)
    for rate in (0.05, 0.2):
        for _ in range(20):
            p_values = generator.integers(1, 40, 50) / 40
            adjusted = stats.false_discovery_control(p_values)
            assert benjamini_hochberg(p_values, rate).tolist() == np.flatnonzero(adjusted <= rate + 1e-12).tolist()
    assert benjamini_hochberg(np.empty(0), 0.1).tolist() == []
    with pytest.raises(MmoodError, match="false-discovery rate"):
        benjamini_hochberg(np.array([0.5]), 1.5)
