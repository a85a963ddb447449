"""The bootstrap against the metrics on images that were drawn out in full, and its intervals against known truth."""

from statistics import NormalDist

import numpy as np
import pytest

import mmood.metrics.bootstrap as module
from mmood.errors import MmoodError
from mmood.metrics.bootstrap import (
    Interval,
    bootstrap,
    delong,
    mean_replicates,
    percentile_interval,
    placements,
)
from mmood.metrics.functional import auroc, ood_metrics

NORMAL = NormalDist()


def drawn_out(scores, counts):
    return np.repeat(scores, counts)


@pytest.mark.parametrize(("n_id", "n_ood", "decimals"), [(57, 31, 1), (57, 31, 9), (20, 40, 0), (1, 1, 9), (3, 200, 0)])
def test_each_replicate_is_the_metric_of_its_drawn_images(n_id, n_ood, decimals, monkeypatch):
    random = np.random.default_rng(n_id)
    id_scores, ood_scores = random.normal(1, 1, n_id).round(decimals), random.normal(0, 2, n_ood).round(decimals)
    draws = []
    draw = module._draw
    monkeypatch.setattr(module, "_draw", lambda *arguments: draws.append(draw(*arguments)) or draws[-1])
    found = bootstrap({"s": id_scores}, {"far": {"s": ood_scores}}, resamples=50)["s", "far"]
    assert [part.shape for part in draws] == [(50, n_id + 1), (50, n_ood + 1)]  # each with its column of zeros
    for row in range(50):
        expected = ood_metrics(drawn_out(id_scores, draws[0][row, :-1]), drawn_out(ood_scores, draws[1][row, :-1]))
        assert found.auroc[row] == pytest.approx(expected.auroc, abs=1e-15)
        assert found.fpr95_id_pos[row] == expected.fpr95_id_pos
        assert found.fpr95_ood_pos[row] == expected.fpr95_ood_pos


def test_blocks_and_threads_do_not_change_what_a_seed_gives(monkeypatch):
    random = np.random.default_rng(0)
    id_scores, ood_scores = {"s": random.normal(1, 1, 300)}, {"far": {"s": random.normal(0, 1, 200)}}
    monkeypatch.setattr(module, "_BLOCK", 500 * 8)
    first = bootstrap(id_scores, ood_scores, resamples=20, seed=3)["s", "far"]
    monkeypatch.setattr(module.os, "cpu_count", lambda: 1)
    again = bootstrap(id_scores, ood_scores, resamples=20, seed=3)["s", "far"]
    other = bootstrap(id_scores, ood_scores, resamples=20, seed=4)["s", "far"]
    np.testing.assert_array_equal(first.auroc, again.auroc)
    assert not np.array_equal(first.auroc, other.auroc)
    assert len(np.unique(first.auroc)) == 20  # the blocks draw differently


def test_scores_are_drawn_together_so_differences_are_paired():
    random = np.random.default_rng(1)
    id_scores, ood_scores = random.normal(1, 1, 400), random.normal(0, 1, 300)
    found = bootstrap({"a": id_scores, "b": 2 * id_scores + 1}, {"far": {"a": ood_scores, "b": 2 * ood_scores + 1}})
    assert percentile_interval((found["a", "far"] - found["b", "far"]).fpr95_id_pos) == Interval(0, 0)
    mean = mean_replicates([found["a", "far"], found["b", "far"]])
    np.testing.assert_allclose(mean.auroc, found["a", "far"].auroc)


def test_a_set_may_lack_a_score():
    found = bootstrap({"a": np.arange(9.0), "b": np.arange(9.0)}, {"far": {"a": np.arange(4.0)}}, resamples=2)
    assert list(found) == [("a", "far")]


@pytest.mark.parametrize(
    ("id_scores", "ood_scores", "message"),
    [
        ({"a": np.ones(0)}, {"far": {"a": np.ones(2)}}, "There are no ID scores"),
        ({"a": np.ones(2)}, {"far": {"a": np.array([1, np.nan])}}, "'a' of far holds NaN"),
        ({"a": np.ones(2), "b": np.ones(3)}, {"far": {"a": np.ones(2)}}, "ID have \\[2, 3\\] values"),
    ],
)
def test_impossible_scores_are_refused(id_scores, ood_scores, message):
    with pytest.raises(MmoodError, match=message):
        bootstrap(id_scores, ood_scores)


def test_infinities_are_scores():
    found = bootstrap({"a": np.array([1.0, np.inf])}, {"far": {"a": np.array([-np.inf, 0.0])}}, resamples=5)
    np.testing.assert_array_equal(found["a", "far"].auroc, np.ones(5))


def test_placements_are_those_of_all_pairs():
    random = np.random.default_rng(2)
    id_scores, ood_scores = random.normal(1, 1, 30).round(1), random.normal(0, 1, 20).round(1)
    pairs = (id_scores[:, None] > ood_scores) + 0.5 * (id_scores[:, None] == ood_scores)
    found = placements(id_scores, ood_scores)
    np.testing.assert_allclose(found.id, pairs.mean(axis=1), atol=1e-15)
    np.testing.assert_allclose(found.ood, pairs.mean(axis=0), atol=1e-15)
    assert found.id.mean() == pytest.approx(auroc(id_scores, ood_scores), abs=1e-15)


def test_delong_agrees_with_the_paired_bootstrap():
    random = np.random.default_rng(3)
    id_scores, ood_scores = random.normal(1, 1, 2000), random.normal(0, 1, 1000)
    noisy = id_scores + random.normal(0, 0.7, 2000), ood_scores + random.normal(0, 0.7, 1000)
    by_formula = delong(placements(id_scores, ood_scores), placements(*noisy))
    found = bootstrap({"a": id_scores, "b": noisy[0]}, {"far": {"a": ood_scores, "b": noisy[1]}}, resamples=2000)
    replicates = (found["a", "far"] - found["b", "far"]).auroc
    assert by_formula.auroc == pytest.approx(auroc(id_scores, ood_scores) - auroc(*noisy), abs=1e-12)
    assert by_formula.standard_error == pytest.approx(replicates.std(), rel=0.06)
    assert by_formula.p < 1e-6


def test_delong_of_a_score_with_itself_says_no_difference():
    same = placements(np.array([1.0, 2.0, 3.0]), np.array([0.0, 2.0]))
    assert delong(same, same) == (0, 0, 1)


def test_delong_rejects_a_true_null_as_often_as_it_should():
    random = np.random.default_rng(4)
    ps = []
    for _ in range(1000):
        id_common, ood_common = random.normal(1, 1, 150), random.normal(0, 1, 100)
        sides = [(id_common + random.normal(0, 1, 150), ood_common + random.normal(0, 1, 100)) for _ in range(2)]
        ps.append(delong(placements(*sides[0]), placements(*sides[1])).p)
    assert 0.035 < np.mean(np.array(ps) < 0.05) < 0.065


def test_intervals_contain_the_truth_as_often_as_they_say():
    """ID ~ N(1.5, 1), OoD ~ N(0, 1): all three metrics have closed forms. 2,000 repetitions, fixed seed."""
    shift, n_id, n_ood = 1.5, 600, 600
    tail = NORMAL.inv_cdf(0.95)
    fpr95 = NORMAL.cdf(tail - shift)  # of unit variances, so the same for both
    truth = {"auroc": NORMAL.cdf(shift / np.sqrt(2)), "fpr95_id_pos": fpr95, "fpr95_ood_pos": fpr95}
    random = np.random.default_rng(20)
    # The repetitions are scores on the same places: the data are independent, the draws cost little once.
    id_scores = {str(number): random.normal(shift, 1, n_id) for number in range(2000)}
    ood_scores = {name: random.normal(0, 1, n_ood) for name in id_scores}
    found = bootstrap(id_scores, {"far": ood_scores}, resamples=500).values()
    for name, value in truth.items():
        intervals = [percentile_interval(getattr(replicates, name)) for replicates in found]
        coverage = np.mean([low <= value <= high for low, high in intervals])
        assert 0.93 <= coverage <= 0.97, (name, coverage)
