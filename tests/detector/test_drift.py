"""The statistics of `mmood monitor` against brute force and simulation."""

import itertools
import math

import numpy as np
import pytest
from scipy.stats import binom, entropy

from mmood.detector.calibration import calibrate
from mmood.detector.monitoring.drift import (
    energy_test,
    holm,
    mean_cosine,
    population_stability,
    score_shift,
    share_below,
)


def test_the_p_value_of_the_share_counts_all_orders_of_both_samples():
    """Four new among six calibration scores: of all 210 orders, those with as many below the second of the six."""
    n, new, rank = 6, 4, 2
    orders = list(itertools.combinations(range(n + new), new))
    below = []
    for order in orders:
        threshold = [place for place in range(n + new) if place not in order][rank - 1]
        below.append(sum(place < threshold for place in order))
    for count in range(new + 1):
        expected = sum(found >= count for found in below) / len(orders)
        assert share_below(count, new, n, rank).p_value == pytest.approx(expected)
    assert share_below(1, new, n, rank).expected == pytest.approx(np.mean(below) / new)


def test_the_interval_of_the_share_is_that_of_clopper_and_pearson():
    found = share_below(3, 20, 500, 25)
    for end, tail in ((found.low, range(3, 21)), (found.high, range(4))):
        mass = sum(math.comb(20, k) * end**k * (1 - end) ** (20 - k) for k in tail)
        assert mass == pytest.approx(0.025)
    assert (share_below(0, 20, 500, 25).low, share_below(20, 20, 500, 25).high) == (0, 1)
    assert share_below(20, 20, 10**6, 10).p_value < 1e-60  # no digits are lost in the tail


def test_the_energy_distance_is_the_sum_over_all_pairs():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(5, 3)), rng.normal(size=(7, 3)) + 1

    def mean(a, b):
        return np.mean([np.linalg.norm(p - q) for p in a for q in b])

    expected = 2 * mean(x, y) - mean(x, x) - mean(y, y)
    assert energy_test(x, y, 9, np.random.default_rng(0))[0] == pytest.approx(expected)


def test_the_permutation_p_value_is_that_of_all_permutations():
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(3, 2)) + 0.8, rng.normal(size=(5, 2))
    pooled = np.concatenate([x, y])
    energies = []
    for chosen in itertools.combinations(range(8), 3):
        others = [place for place in range(8) if place not in chosen]
        energies.append(energy_test(pooled[list(chosen)], pooled[others], 1, rng)[0])
    exact = np.mean(np.array(energies) >= energies[0] - 1e-12)
    assert energy_test(x, y, 20_000, np.random.default_rng(0))[1] == pytest.approx(exact, abs=0.015)


def test_equal_samples_have_no_energy_and_a_p_value_of_one():
    same = np.ones((6, 4))
    assert energy_test(same[:2], same[2:], 99, np.random.default_rng(0)) == (0, 1)


def test_the_stability_index_is_the_sum_over_deciles_and_as_large_as_expected():
    rng = np.random.default_rng(4)
    calibration, scores = rng.normal(size=1000), rng.normal(1, 1, 400)
    edges = [-np.inf, *np.quantile(calibration, np.arange(1, 10) / 10), np.inf]
    p, q = (np.histogram(values, edges)[0] + 0.5 for values in (scores, calibration))
    # Jeffreys' divergence: Kullback and Leibler's both ways.
    assert population_stability(scores, calibration)[0] == pytest.approx(entropy(p, q) + entropy(q, p))
    draws = np.random.default_rng(0).normal(size=(200, 900))
    found = [population_stability(draw[:300], draw[300:]) for draw in draws]
    assert np.mean([index for index, _ in found]) == pytest.approx(found[0][1], rel=0.1)
    # Three values have three bins at most.
    assert np.isfinite(population_stability(np.zeros(5), np.array([0.0, 0.0, 1.0, 2.0]))).all()


def test_the_cosine_of_means_is_about_what_is_expected():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(20_000, 16)) + 0.5
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    mean = rows.mean(axis=0)
    found = [mean_cosine(rows[rng.integers(len(rows), size=50)].mean(axis=0), mean, 50) for _ in range(200)]
    assert 1 - np.mean([cosine for cosine, _ in found]) == pytest.approx(1 - found[0][1], rel=0.1)
    assert mean_cosine(-mean, mean, 50)[0] == pytest.approx(-1)


def test_holm_rejects_what_the_step_down_procedure_does():
    rng = np.random.default_rng(0)
    for _ in range(200):
        values = dict(zip("abcd", rng.uniform(0, 0.1, 4), strict=True))
        ordered = sorted(values, key=values.__getitem__)
        rejected = set()
        for place, name in enumerate(ordered):
            if values[name] > 0.05 / (4 - place):
                break
            rejected.add(name)
        assert {name for name, value in holm(values).items() if value <= 0.05} == rejected


@pytest.mark.parametrize("decimals", [8, 1], ids=["continuous", "ties"])
def test_windows_without_a_change_raise_no_more_false_alarms_than_stated(decimals):
    """Small calibration sets, drawn anew: an exact binomial test at the nominal rate would fail here."""
    rng, rate, windows, alarms, naive = np.random.default_rng(0), 0.05, 500, 0, 0
    for _ in range(windows):
        calibration = calibrate(rng.normal(size=60).round(decimals).astype(np.float32), 0.9)
        scores = rng.normal(size=120).round(decimals).astype(np.float32)
        count = int((~calibration.accepts(scores)).sum())
        below = share_below(count, 120, 60, calibration.rank)
        naive += binom.sf(count - 1, 120, below.expected) <= rate
        tests = {"share": below.p_value, "scores": score_shift(scores, calibration.scores).p_value}
        alarms += min(holm(tests).values()) <= rate
    allowed = binom.ppf(0.999, windows, rate)
    assert alarms <= allowed
    if decimals == 8:
        assert naive > allowed


def test_the_energy_test_is_exact_without_a_change():
    rng = np.random.default_rng(0)
    found = [energy_test(rng.normal(size=(8, 3)), rng.normal(size=(30, 3)), 99, rng)[1] for _ in range(300)]
    # Uniform on 0.01, 0.02, ..., 1: three standard errors.
    for level in (0.05, 0.2, 0.5):
        assert np.mean(np.array(found) <= level) == pytest.approx(level, abs=3 * np.sqrt(level * (1 - level) / 300))
