"""Approximate search by faiss against the exact one; without faiss, the sentence that asks for it."""

import doctest

import numpy as np
import pytest
import torch
from bank_fakes import FakeReference, queries, with_prototypes

from mmood.errors import MmoodError
from mmood.scores import approximate
from mmood.scores.base import Embedded
from mmood.scores.neighbours import KNN


def clustered(images, seed, width=48, clusters=60):
    """Rows around random centres, as features of a tower lie around their classes."""
    centres = torch.randn(clusters, width, generator=torch.Generator().manual_seed(0))
    random = torch.Generator().manual_seed(seed)
    labels = torch.randint(clusters, (images,), generator=random)
    return centres[labels] + torch.randn(images, width, generator=random), labels


def test_examples():
    assert not doctest.testmod(approximate).failed


def test_without_faiss_there_is_a_sentence(monkeypatch):
    monkeypatch.setattr(approximate.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MmoodError, match=r"KNN\.search: approximate needs faiss.*pip install 'mmood\[faiss\]'"):
        KNN(search="approximate")
    KNN(search="exact")


@pytest.mark.parametrize(("k", "average"), [(1, False), (10, False), (10, True)])
def test_recall_against_the_exact_search(k, average, capsys):
    pytest.importorskip("faiss")
    rows, labels = clustered(20_000, 1)
    reference = FakeReference(rows.half(), labels, [str(c) for c in range(60)])
    images = Embedded(clustered(500, 2)[0], torch.zeros(500, 60))
    exact = KNN(k, average=average).fit(reference)
    score = KNN(k, average=average, search="approximate").fit(reference)
    found, best = (one.neighbours_.nearest(torch.nn.functional.normalize(images.features), k) for one in (score, exact))
    # A similarity below the k-th exact one belongs to an image that is none of the k nearest.
    recall = float((found >= best[:, -1:] - 1e-3).float().mean())
    with capsys.disabled():
        print(f" recall at {k}: {recall:.4f}", end="")
    assert recall > 0.95
    assert score.neighbours_.index.nprobe * 8 <= score.neighbours_.lists
    approximate_scores, exact_scores = score(images), exact(images)
    # Rows in half precision may round up.
    assert (approximate_scores <= exact_scores + 1e-3).all()
    assert np.corrcoef(approximate_scores, exact_scores)[0, 1] > 0.99


def test_inverted_lists_with_too_few_rows_are_all_searched():
    pytest.importorskip("faiss")
    reference = with_prototypes()
    images = queries(reference)
    for k in (1, 60):
        expected = KNN(k).fit(reference)(images)
        torch.testing.assert_close(KNN(k, search="approximate").fit(reference)(images), expected, atol=2e-3, rtol=0)
    empty = Embedded(torch.zeros(0, 7), torch.zeros(0, 3))
    assert KNN(search="approximate").fit(reference)(empty).shape == (0,)


def test_a_search_is_the_same_each_time():
    pytest.importorskip("faiss")
    rows, labels = clustered(4_000, 1)
    reference = FakeReference(rows, labels, [str(c) for c in range(60)])
    images = Embedded(clustered(50, 2)[0], torch.zeros(50, 60))
    one, two = (KNN(search="approximate").fit(reference)(images) for _ in range(2))
    assert torch.equal(one, two)
