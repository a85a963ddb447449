import doctest
import math

import pytest
import torch
from torch.nn.functional import normalize

from mmood.words import corpus, criteria, embedding


def unit(seed, *shape):
    return normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


@pytest.mark.parametrize("module", [criteria, corpus, embedding])
def test_examples(module):
    assert not doctest.testmod(module).failed


@pytest.mark.parametrize("quantile", [0.0, 0.3, 0.5, 0.95, 0.999, 1.0])
@pytest.mark.parametrize("classes", [1, 2, 20, 41])
def test_quantile_equals_brute_force_in_float64(quantile, classes):
    words, names = unit(0, 53, 16), unit(1, classes, 16)
    truth = (words.double() @ names.double().T).quantile(quantile, dim=-1, interpolation="linear")
    for rows in (7, 1000):
        torch.testing.assert_close(
            criteria.quantile_similarity(words, names, quantile, rows=rows).double(), truth, atol=1e-6, rtol=0
        )


@pytest.mark.parametrize("index", [0, 20, 28, 29])
@pytest.mark.parametrize("select", [criteria._upper_end, criteria._upper_end_by_topk])
def test_every_device_selects_the_same_order_statistics(select, index):
    cosines = torch.randn(9, 30, generator=torch.Generator().manual_seed(0))
    ranked = cosines.sort(-1).values
    expected = (ranked[:, index], ranked[:, min(index + 1, 29)], ranked[:, -1])
    for got, want in zip(select(cosines, index), expected, strict=True):
        assert torch.equal(got, want)


def test_quantile_of_one_is_the_maximum_and_class_order_does_not_matter():
    words, names = unit(0, 40, 8), unit(1, 21, 8)
    torch.testing.assert_close(criteria.quantile_similarity(words, names, 1.0), (words @ names.T).amax(-1))
    shuffled = names[torch.randperm(21, generator=torch.Generator().manual_seed(0))]
    rank = criteria.select_farthest(criteria.quantile_similarity(words, names), 40)
    assert torch.equal(rank, criteria.select_farthest(criteria.quantile_similarity(words, shuffled), 40))


def test_near_duplicates_come_last():
    names = unit(1, 40, 8)
    words = torch.cat([names[:1], -names[:1], unit(0, 5, 8)])
    similarity = criteria.quantile_similarity(words, names, 0.5, near_duplicate=0.95)
    assert similarity[0] == 1.0
    assert (similarity[1:] < 1).all()
    assert criteria.select_farthest(similarity, 7)[-1] == 0
    assert criteria.quantile_similarity(words, names, 0.5)[0] < 1


def test_inputs_stay_as_they_are():
    words, names = unit(0, 30, 8), unit(1, 20, 8)
    before = words.clone(), names.clone()
    criteria.quantile_similarity(words, names)
    assert torch.equal(words, before[0])
    assert torch.equal(names, before[1])


def test_ties_go_by_index():
    assert criteria.select_farthest(torch.tensor([2.0, 1.0, 1.0, 0.0, 1.0]), 4).tolist() == [3, 1, 2, 4]


def test_share_is_the_floor_of_the_decimal():
    assert all(criteria.share(0.15, n) == 15 * n // 100 for n in range(0, 70_001, 7))
    assert criteria.share(1.0, 9) == 9


def test_count_is_split_in_proportion():
    # NegLabel's pool and InterNeg's surviving words with their published quotas.
    assert criteria.split_in_proportion(2000, 53_036, 7_543) == (1751, 249)
    assert criteria.split_in_proportion(10, 3, 4) == (3, 4)
    assert criteria.split_in_proportion(10, 0, 0) == (0, 0)


def test_inter_modal_criterion_equals_brute_force():
    words, names = unit(0, 60, 4), unit(1, 3, 4)
    images = normalize(names + unit(2, 3, 4), dim=-1)
    admissible, deviation = criteria.inter_modal_deviation(words, images, names, rows=9)
    for w in range(60):
        gaps = [float(names[c] @ images[c]) - float(words[w] @ images[c]) for c in range(3)]
        assert bool(admissible[w]) == all(gap > 0 for gap in gaps)
        assert math.isclose(float(deviation[w]), sum(gaps) / 3, abs_tol=1e-6)
    assert 0 < admissible.sum() < 60


@pytest.mark.parametrize("quantile", [-0.1, 1.1])
def test_an_impossible_quantile_is_refused(quantile):
    with pytest.raises(ValueError, match="must lie in"):
        criteria.quantile_similarity(unit(0, 2, 4), unit(1, 2, 4), quantile)
