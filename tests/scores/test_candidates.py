"""Nearest neighbours by rounded products: the same rows as by brute force in float64, whatever the data."""

import doctest

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from mmood.scores import functional_candidates as candidates
from mmood.scores import functional_neighbours as functional
from mmood.scores.functional_candidates import nearest_by_candidates
from mmood.scores.functional_neighbours import inverse_norms, nearest_similarities


def unit(rows: int, width: int, seed: int) -> torch.Tensor:
    return normalize(torch.randn(rows, width, generator=torch.Generator().manual_seed(seed)), dim=1)


def brute_force(queries, bank, scale, k):
    """All similarities in float64, and the k first of a stable sort: of equal ones, the first rows."""
    similarities = queries.double().numpy() @ (bank.float() * scale[:, None]).double().numpy().T
    rows = np.argsort(-similarities, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(similarities, rows, axis=1), rows


def clustered(rows: int, width: int, seed: int) -> torch.Tensor:
    """Features as towers make them: in a narrow cone, in classes, sorted by class, of any length."""
    generator = torch.Generator().manual_seed(seed)
    classes = torch.randn(20, width, generator=generator) + 1
    labels = torch.arange(rows) * 20 // rows
    lengths = torch.rand(rows, 1, generator=generator) * 9 + 1
    return (classes[labels] + 0.5 * torch.randn(rows, width, generator=generator)) * lengths


def nearly_tied(rows: int, width: int, seed: int) -> torch.Tensor:
    """Few rows many times, the copies changed by a millionth: bfloat16 sees no difference between them."""
    bank = unit(rows // 20, width, seed).repeat(20, 1)
    return bank + 1e-6 * torch.randn(len(bank), width, generator=torch.Generator().manual_seed(seed))


BANKS = {
    "random": lambda: unit(3001, 24, 0),
    "clustered": lambda: clustered(3001, 24, 0),
    "near ties": lambda: nearly_tied(3000, 24, 0),
    "duplicates": lambda: unit(300, 24, 0).repeat(10, 1),
    "halves": lambda: clustered(3001, 24, 0).half(),
    "all similarities negative": lambda: -clustered(3001, 24, 0).abs(),
    "tiny": lambda: 1e-30 * unit(3001, 24, 0),
    "zeros among them": lambda: torch.cat([unit(1500, 24, 0), torch.zeros(1, 24), unit(1500, 24, 2)]),
}


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    """Chunks and tiles that do not divide the whole."""
    monkeypatch.setattr(candidates, "ROWS", 16 * 43)
    monkeypatch.setattr(candidates, "QUERIES", 70)
    monkeypatch.setattr(candidates, "TURN", 50)


@pytest.mark.parametrize("k", [1, 10])
@pytest.mark.parametrize("kind", BANKS)
def test_the_neighbours_are_those_of_brute_force(kind, k):
    bank = BANKS[kind]()
    queries = normalize(torch.cat([unit(100, 24, 1), clustered(100, 24, 0), bank[:50].float()]), dim=1)
    scale = inverse_norms(bank.float())
    similarities, rows = brute_force(queries, bank, scale, k)
    nearest = nearest_by_candidates(queries, bank, scale, k)
    assert nearest.decided.float().mean() > 0.8
    np.testing.assert_array_equal(nearest.rows[nearest.decided], rows[nearest.decided])
    np.testing.assert_allclose(nearest.similarities[nearest.decided], similarities[nearest.decided], rtol=1e-7)


def test_no_product_lies_outside_its_bound():
    # Numbers halfway between two of bfloat16, with signs that make all errors add up: the worst that rounding can do.
    halfway = torch.full((64, 512), 1 + 2**-8 + 2**-20)
    queries = torch.cat([halfway, unit(64, 512, 0), 1e3 * unit(64, 512, 1)])
    rows = torch.cat([halfway, -halfway, unit(640, 512, 2)])
    rounded = queries.bfloat16()
    bound = candidates._relative_error(queries, rounded.float())[:, None] * torch.linalg.vector_norm(rows, dim=1)
    products = (rounded @ rows.bfloat16().T).double()
    error = (products - queries.double() @ rows.double().T).abs()
    assert (error <= bound + candidates.ROUNDING * products.abs()).all()
    # And the bound is nearly reached.
    assert error[0, 0] > 0.9 * bound[0, 0]


@pytest.mark.parametrize("k", [1, 5])
def test_queries_with_too_many_candidates_are_left_to_float32(k, monkeypatch):
    monkeypatch.setattr(functional, "_candidates_pay", lambda *_: True)
    queries, other = unit(90, 24, 1), unit(500, 24, 0)
    bank = torch.cat([other, queries[:1].expand(3000, -1), other])
    nearest = nearest_by_candidates(queries, bank, torch.ones(len(bank)), k)
    assert not nearest.decided[0]
    assert nearest.decided.any()
    expected, _ = brute_force(queries, bank, torch.ones(len(bank)), k)
    found = nearest_similarities(queries, bank, torch.ones(len(bank)), k)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_nan_stays_nan_zero_stays_zero_and_an_empty_batch_is_empty(monkeypatch):
    monkeypatch.setattr(functional, "_candidates_pay", lambda *_: True)
    queries, bank = unit(80, 24, 1), unit(3000, 24, 0)
    queries[3, 5], queries[4] = torch.nan, 0
    by_candidates = nearest_similarities(queries, bank, torch.ones(3000))
    in_float32 = functional.nearest_by_products(queries, bank, torch.ones(3000), 1)
    assert by_candidates[3].isnan().all()
    assert by_candidates[4] == 0
    torch.testing.assert_close(by_candidates, in_float32, atol=1e-6, rtol=0, equal_nan=True)
    assert nearest_similarities(queries[:0], bank, torch.ones(3000)).shape == (0, 1)


def test_the_bank_is_not_changed():
    bank = unit(3001, 24, 0)
    before = bank.clone()
    nearest_by_candidates(unit(80, 24, 1), bank, torch.full((3001,), 2.0), 3)
    assert torch.equal(bank, before)


@pytest.mark.parametrize(
    ("queries", "rows", "k", "able", "pays"),
    [
        (256, 20_000, 1, True, True),
        (256, 20_000, 1, False, False),
        (8, 20_000, 1, True, False),
        (256, 10_000, 1, True, False),
        (256, 20_000, 10, True, False),
        (256, 400_000, 10, True, True),
        (256, 10**7, 100, True, False),
    ],
)
def test_candidates_are_taken_where_they_pay(queries, rows, k, able, pays, monkeypatch):
    monkeypatch.setattr(functional, "multiplies_bfloat16", lambda: able)
    bank = torch.empty(1, 8, dtype=torch.float16).expand(rows, -1)
    assert functional._candidates_pay(torch.empty(queries, 8), bank, k) is pays


@pytest.mark.parametrize("k", [1, 10])
def test_ten_thousand_queries_have_the_same_neighbours(k, monkeypatch):
    monkeypatch.setattr(candidates, "QUERIES", 512)
    monkeypatch.setattr(functional, "_candidates_pay", lambda *_: True)
    bank, queries = clustered(4_000, 64, 0).half(), normalize(clustered(10_000, 64, 1), dim=1)
    scale = inverse_norms(bank.float())
    nearest = nearest_by_candidates(queries, bank, scale, k)
    all_similarities = queries.double() @ (bank.float() * scale[:, None]).double().T
    similarities, rows = all_similarities.topk(k, dim=1)
    assert nearest.decided.float().mean() > 0.9
    assert torch.equal(nearest.rows[nearest.decided], rows[nearest.decided])
    np.testing.assert_allclose(nearest.similarities[nearest.decided], similarities[nearest.decided], rtol=1e-7)
    torch.testing.assert_close(nearest_similarities(queries, bank, scale, k), similarities.float(), atol=1e-6, rtol=0)


def test_examples():
    assert not doctest.testmod(candidates).failed
