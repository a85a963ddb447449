"""The metrics against independent oracles: counting pairs, scikit-learn, and identities that must hold."""

import doctest
import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import astuple
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from mmood.errors import MmoodError
from mmood.metrics import functional
from mmood.metrics.functional import (
    OoDMetrics,
    Rates,
    accuracy,
    auroc,
    average_precision,
    fpr_at_recall,
    group_means,
    ood_metrics,
)


def brute_force(id_scores: np.ndarray, ood_scores: np.ndarray) -> list[float]:
    """Every metric from its definition, one threshold and one pair at a time."""
    ids, oods = [float(s) for s in id_scores], [float(s) for s in ood_scores]

    def precision_recall(positive: list[float], negative: list[float]) -> float:
        area, reached = Fraction(0), Fraction(0)
        for threshold in sorted(set(positive), reverse=True):
            tp, fp = sum(s >= threshold for s in positive), sum(s >= threshold for s in negative)
            area += (Fraction(tp, len(positive)) - reached) * Fraction(tp, tp + fp)
            reached = Fraction(tp, len(positive))
        return float(area)

    def fpr95(positive: list[float], negative: list[float]) -> float:
        enough = [t for t in positive if 100 * sum(s >= t for s in positive) >= 95 * len(positive)]
        return sum(s >= max(enough) for s in negative) / len(negative)

    pairs = sum(2 * (a > b) + (a == b) for a in ids for b in oods) / (2 * len(ids) * len(oods))
    from_ood = [-s for s in oods], [-s for s in ids]
    return [pairs, precision_recall(ids, oods), precision_recall(*from_ood), fpr95(ids, oods), fpr95(*from_ood)]


def scikit_learn(id_scores: np.ndarray, ood_scores: np.ndarray) -> list[float]:
    is_id = np.repeat([1, 0], [len(id_scores), len(ood_scores)])
    scores = np.concatenate([id_scores, ood_scores]).astype(np.float64)

    def first_point(positive: np.ndarray, scores: np.ndarray) -> float:
        fpr, tpr, _ = roc_curve(positive, scores, drop_intermediate=False)
        return fpr[np.argmax(tpr >= 0.95)]

    return [
        roc_auc_score(is_id, scores),
        average_precision_score(is_id, scores),
        average_precision_score(1 - is_id, -scores),
        first_point(is_id, scores),
        first_point(1 - is_id, -scores),
    ]


def rates(metrics: Rates) -> list[float]:
    return [metrics.auroc, metrics.aupr_id, metrics.aupr_ood, metrics.fpr95_id_pos, metrics.fpr95_ood_pos]


# Few distinct values, so that most draws have ties within and across the sides; every float32 otherwise.
COARSE = st.sampled_from([-math.inf, -2.0, -1.0, -0.0, 0.0, 0.5, 1.0, 1e30, math.inf])
FINE = st.floats(width=32, allow_nan=False)
SCORES = st.one_of(*(arrays(np.float32, st.integers(1, 40), elements=values) for values in (COARSE, FINE)))


@given(SCORES, SCORES)
@settings(max_examples=200, deadline=None)
def test_equals_brute_force(id_scores: np.ndarray, ood_scores: np.ndarray) -> None:
    np.testing.assert_allclose(
        rates(ood_metrics(id_scores, ood_scores)), brute_force(id_scores, ood_scores), rtol=0, atol=1e-14
    )


@pytest.mark.parametrize(("n_id", "n_ood"), [(1, 1), (1, 50), (50, 1), (20, 20), (1000, 333), (4500, 588)])
@pytest.mark.parametrize("decimals", [0, 1, 12], ids=["heavy-ties", "ties", "distinct"])
def test_equals_scikit_learn(n_id: int, n_ood: int, decimals: int) -> None:
    random = np.random.default_rng(n_id)
    id_scores = random.normal(1, 1, n_id).round(decimals)
    ood_scores = random.normal(0, 1.4, n_ood).round(decimals)
    np.testing.assert_allclose(
        rates(ood_metrics(id_scores, ood_scores)), scikit_learn(id_scores, ood_scores), rtol=0, atol=1e-12
    )


@given(SCORES, SCORES)
@settings(deadline=None)
def test_single_functions_are_the_parts_of_ood_metrics(id_scores: np.ndarray, ood_scores: np.ndarray) -> None:
    metrics = ood_metrics(id_scores, ood_scores)
    assert metrics == OoDMetrics(
        n_id=len(id_scores),
        n_ood=len(ood_scores),
        auroc=auroc(id_scores, ood_scores),
        aupr_id=average_precision(id_scores, ood_scores),
        aupr_ood=average_precision(-ood_scores, -id_scores),
        fpr95_id_pos=fpr_at_recall(id_scores, ood_scores),
        fpr95_ood_pos=fpr_at_recall(-ood_scores, -id_scores),
    )


@given(SCORES, SCORES)
@settings(deadline=None)
def test_swapping_the_sides_and_the_sign_swaps_the_orientations(id_scores: np.ndarray, ood_scores: np.ndarray) -> None:
    here, there = ood_metrics(id_scores, ood_scores), ood_metrics(-ood_scores, -id_scores)
    assert (there.n_id, there.n_ood, there.auroc) == (here.n_ood, here.n_id, here.auroc)
    assert (there.aupr_id, there.fpr95_id_pos) == (here.aupr_ood, here.fpr95_ood_pos)
    assert (there.aupr_ood, there.fpr95_ood_pos) == (here.aupr_id, here.fpr95_id_pos)


@pytest.mark.parametrize(
    "rising",
    [lambda s: 1000 * s - 7, np.arctan, np.cbrt, lambda s: np.exp(s / 8), lambda s: np.unique(s).searchsorted(s) * 1.0],
    ids=["affine", "arctan", "cbrt", "exp", "rank"],
)
@given(st.lists(st.integers(-30, 30), min_size=1), st.lists(st.integers(-30, 30), min_size=1))
@settings(max_examples=30, deadline=None)
def test_only_the_order_counts(rising: Callable[[np.ndarray], np.ndarray], ids: list[int], oods: list[int]) -> None:
    scores = np.array(ids + oods, dtype=np.float64)
    moved = rising(scores)
    assert ood_metrics(moved[: len(ids)], moved[len(ids) :]) == ood_metrics(scores[: len(ids)], scores[len(ids) :])


@given(SCORES, SCORES, st.randoms(use_true_random=False))
@settings(deadline=None)
def test_the_order_of_samples_does_not_count(id_scores: np.ndarray, ood_scores: np.ndarray, random: object) -> None:
    shuffled = np.random.default_rng(random.randrange(2**32)).permutation  # type: ignore[attr-defined]
    assert ood_metrics(shuffled(id_scores), shuffled(ood_scores)) == ood_metrics(id_scores, ood_scores)


def test_inputs_are_left_alone() -> None:
    id_scores, ood_scores = np.array([3.0, 1.0, 2.0]), np.array([2.0, 0.0])
    ood_metrics(id_scores, ood_scores)
    assert (id_scores.tolist(), ood_scores.tolist()) == ([3.0, 1.0, 2.0], [2.0, 0.0])


@pytest.mark.parametrize("value", [0.0, 1.0, -math.inf, math.inf])
def test_constant_scores_tell_nothing(value: float) -> None:
    assert rates(ood_metrics(np.full(30, value), np.full(10, value))) == [0.5, 0.75, 0.25, 1.0, 1.0]


def test_perfect_and_reversed() -> None:
    low, high = np.arange(50.0), np.arange(50.0) + 100
    assert rates(ood_metrics(high, low)) == [1.0, 1.0, 1.0, 0.0, 0.0]
    assert auroc(low, high) == 0.0
    assert fpr_at_recall(low, high) == 1.0


def test_the_two_fpr95_are_two_quantities() -> None:
    random = np.random.default_rng(0)
    metrics = ood_metrics(random.normal(0, 1, 45_000), random.normal(-1, 1.4, 5_879))
    assert metrics.fpr95_id_pos == pytest.approx(0.67, abs=0.02)
    assert metrics.fpr95_ood_pos == pytest.approx(0.90, abs=0.02)


def test_exactly_95_percent_is_enough_and_less_is_not() -> None:
    for n in range(1, 501):
        needed = -(-95 * n // 100)
        positive, negative = np.arange(float(n)), np.arange(float(n)) - 0.5
        assert fpr_at_recall(positive, negative) == (needed - 1) / n  # the threshold is the positive n - needed


@pytest.mark.parametrize(("recall", "needed"), [(0.1, 1), (0.3, 3), (0.55, 6), (0.7, 7), (0.9, 9), (1.0, 10)])
def test_recall_is_meant_as_written(recall: float, needed: int) -> None:
    assert fpr_at_recall(np.arange(10.0), np.arange(10.0) + 0.5, recall) == needed / 10


@pytest.mark.parametrize("recall", [0.0, -0.5, 1.01, math.nan])
def test_impossible_recall(recall: float) -> None:
    with pytest.raises(MmoodError, match="above 0 and at most 1"):
        fpr_at_recall(np.ones(2), np.ones(2), recall)


def test_scores_beyond_one_are_never_squashed() -> None:
    random = np.random.default_rng(1)
    id_scores, ood_scores = random.normal(602, 2, 500), random.normal(600, 2, 500)  # a sigmoid makes them all 1
    assert auroc(id_scores, ood_scores) == pytest.approx(0.76, abs=0.03)


def test_saturated_float32_is_compared_as_it_is() -> None:
    probability = 1 / (1 + np.exp(-np.array([18.0, 17.5, 2.0])))
    saturated = probability.astype(np.float32)
    assert auroc(probability[:1], probability[1:]) == 1.0
    assert auroc(saturated[:1], saturated[1:]) == 0.75  # 18 and 17.5 became the same float32
    assert auroc(saturated[:1], probability[1:]) == 1.0  # float32 widens to float64 without rounding


def test_infinities_are_ordinary_scores() -> None:
    assert auroc(np.array([math.inf, 0.0]), np.array([-math.inf, 0.0])) == 0.875


@pytest.mark.parametrize(
    ("id_scores", "ood_scores", "message"),
    [
        ([], [1.0], "no ID scores"),
        ([1.0], [], "no OoD scores"),
        ([1.0, math.nan, math.nan], [1.0], "2 of the 3 ID scores are NaN"),
        ([1.0], [math.nan, math.inf], "1 of the 2 OoD scores are NaN"),
    ],
)
def test_empty_and_nan_are_errors_that_name_the_side(
    id_scores: list[float], ood_scores: list[float], message: str
) -> None:
    for function in (ood_metrics, auroc):
        with pytest.raises(MmoodError, match=message):
            function(np.array(id_scores), np.array(ood_scores))


def test_accuracy() -> None:
    assert accuracy(np.array([0, 1, 2]), np.array([0, 1, -1])) == 2 / 3
    with pytest.raises(MmoodError, match="no images"):
        accuracy(np.array([], dtype=np.int64), np.array([], dtype=np.int64))


def uniform(value: float) -> Rates:
    return Rates(auroc=value, aupr_id=value, aupr_ood=value, fpr95_id_pos=value, fpr95_ood_pos=value)


def test_every_set_weighs_the_same_in_a_mean() -> None:
    rows = [("far", "sun", 0.5), ("far", "places", 0.75), ("near", "ninco", 0.25)]
    means = group_means((group, name, uniform(value)) for group, name, value in rows)
    assert list(means) == ["far", "near", "all"]
    assert [astuple(mean) for mean in means.values()] == [(0.625,) * 5, (0.25,) * 5, (0.5,) * 5]


def test_seeds_of_a_set_count_as_one_set() -> None:
    rows = [("far", "sun", 0.0), ("far", "sun", 0.5), ("far", "places", 0.75)]
    assert group_means((group, name, uniform(value)) for group, name, value in rows)["far"].auroc == 0.5


def test_means_of_nothing_and_a_group_called_all() -> None:
    assert group_means([]) == {}
    with pytest.raises(MmoodError, match="called 'all'"):
        group_means([("all", "sun", uniform(0.5))])


def test_documented_examples() -> None:
    outcome = doctest.testmod(functional, extraglobs={"np": np})
    assert outcome.failed == 0
    assert outcome.attempted > 5


def test_starts_without_torch() -> None:
    check = "import sys, mmood.metrics.functional; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int64, np.bool_])
def test_every_type_of_real_number_is_ranked_by_its_value(dtype: type) -> None:
    id_scores, ood_scores = np.array([1, 1, 0], dtype), np.array([0, 0, 1], dtype)
    assert astuple(ood_metrics(id_scores, ood_scores)) == astuple(
        ood_metrics(id_scores.astype(np.float64), ood_scores.astype(np.float64))
    )


def test_masked_entries_are_refused_and_a_mask_without_any_changes_nothing() -> None:
    scores, others = np.array([3.0, np.nan, 2.0]), np.array([1.0, 2.0])
    with pytest.raises(MmoodError, match="1 of the 3 ID scores are masked"):
        ood_metrics(np.ma.masked_invalid(scores), others)
    with pytest.raises(MmoodError, match="1 of the 3 OoD scores are masked"):
        auroc(others, np.ma.masked_invalid(scores))
    assert auroc(np.ma.masked_invalid(np.array([3.0, 2.0])), others) == 0.875


@pytest.mark.parametrize(
    ("scores", "said"),
    {
        "a column": (np.ones((3, 1)), r"shape \(3, 1\)"),
        "a number": (np.float64(1), r"shape \(\)"),
        "texts": (np.array(["1", "2"]), "type <U1"),
        "complex numbers": (np.ones(2, complex), "type complex128"),
        "a ragged list": ([[1.0], [1.0, 2.0]], "cannot be read as a numpy array"),
        "bfloat16": (torch.ones(3, dtype=torch.bfloat16), "BFloat16"),
        "a gradient": (torch.ones(3, requires_grad=True), "requires grad"),
    }.values(),
)
def test_what_is_no_row_of_numbers_is_refused_in_a_sentence(scores: np.ndarray, said: str) -> None:
    for sides in ((scores, np.ones(2)), (np.ones(2), scores)):
        for metric in (ood_metrics, auroc, average_precision, fpr_at_recall):
            with pytest.raises(MmoodError, match=said):
                metric(*sides)
    with pytest.raises(MmoodError, match=said):
        accuracy(scores, np.ones(3, dtype=np.int64))


def test_a_plain_tensor_counts_as_its_numbers() -> None:
    assert auroc(torch.tensor([3.0, 2.0]), torch.tensor([1.0, 2.0])) == 0.875


def test_labels_and_predictions_of_another_length_are_refused() -> None:
    with pytest.raises(MmoodError, match="There are 3 labels and 1 predicted classes"):
        accuracy(np.array([0, 1, 2]), np.array([1]))
