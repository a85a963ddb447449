import doctest
from dataclasses import replace

import numpy as np
import pytest
import torch
from bank_fakes import queries, wide, with_head, with_prototypes

from mmood.errors import MmoodError
from mmood.scores import functional_neighbours as functional
from mmood.scores.base import Embedded
from mmood.scores.neighbours import KNN, NNGuide


def cosines(left, right):
    left, right = wide(left), wide(right)
    return (left @ right.T) / np.outer(np.linalg.norm(left, axis=1), np.linalg.norm(right, axis=1))


def test_examples():
    assert not doctest.testmod(functional).failed


@pytest.mark.parametrize("on", ["features", "embedding"])
@pytest.mark.parametrize(("k", "average"), [(1, False), (5, False), (5, True), (60, True)])
def test_knn_is_brute_force(on, k, average, monkeypatch):
    # Chunks of the bank and tiles of the queries that do not divide the whole.
    monkeypatch.setattr(functional, "ROWS", 7)
    monkeypatch.setattr(functional, "QUERIES", 8)
    reference = with_prototypes()
    images = queries(reference)
    ranked = -np.sort(-cosines(getattr(images, on), getattr(reference, on)), axis=1)
    expected = ranked[:, :k].mean(axis=1) if average else ranked[:, k - 1]
    scores = KNN(k, on, average).fit(reference)(images)
    assert scores.dtype == torch.float32
    np.testing.assert_allclose(scores, expected, atol=1e-6)


def test_one_neighbour_is_scikit_learns():
    from sklearn.neighbors import NearestNeighbors

    reference = with_prototypes()
    images = queries(reference)
    search = NearestNeighbors(n_neighbors=1, metric="cosine", algorithm="brute").fit(wide(reference.features))
    distance, _ = search.kneighbors(wide(images.features))
    np.testing.assert_allclose(KNN().fit(reference)(images), 1 - distance[:, 0], atol=1e-6)


def test_knn_reads_a_mapped_half_precision_bank_as_it_is_stored(tmp_path):
    reference = with_prototypes()
    path = tmp_path / "bank"
    mapped = torch.from_file(str(path), shared=True, size=reference.features.numel(), dtype=torch.float16)
    mapped = mapped.view_as(reference.features).copy_(reference.features)
    score = KNN().fit(replace(reference, features=mapped))
    assert score.neighbours_.rows is mapped
    assert not list(score.buffers())
    images = queries(reference)
    expected = KNN().fit(replace(reference, features=mapped.float()))(images)
    torch.testing.assert_close(score(images), expected, atol=1e-6, rtol=0)


def test_scale_of_images_does_not_matter_and_zero_is_similar_to_nothing():
    reference = with_prototypes()
    reference.features[0] = 0
    images = queries(reference)
    score = KNN().fit(reference)
    torch.testing.assert_close(score(replace(images, features=7 * images.features)), score(images))
    assert score(replace(images, features=torch.zeros(2, 7))).tolist() == [0, 0]


@pytest.mark.parametrize("score", [KNN(), KNN(k=3), NNGuide(k=3)], ids=repr)
def test_an_empty_batch_has_no_scores(score):
    empty = Embedded(torch.zeros(0, 6), torch.zeros(0, 3))
    assert score.fit(with_head())(empty).shape == (0,)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_nnguide_is_its_definition(temperature):
    reference = with_head()
    images = queries(reference)

    def energy(features):
        logits = wide(features) @ wide(reference.weight).T + wide(reference.bias)
        return temperature * np.log(np.exp(logits / temperature).sum(axis=1))

    guides = cosines(images.features, reference.features) * energy(reference.features)
    expected = energy(images.features) * -np.sort(-guides, axis=1)[:, :4].mean(axis=1)
    scores = NNGuide(k=4, temperature=temperature).fit(reference)(images)
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-4)


def test_nnguide_takes_cosines_with_prototypes_for_logits():
    reference = with_prototypes()
    images = queries(reference)

    def energy(embedding):
        return np.log(np.exp(wide(embedding) @ wide(reference.prototypes).T).sum(axis=1))

    guides = cosines(images.embedding, reference.embedding) * energy(reference.embedding)
    expected = energy(images.embedding) * guides.max(axis=1)
    np.testing.assert_allclose(NNGuide(k=1, reads="embedding").fit(reference)(images), expected, rtol=1e-5)


@pytest.mark.parametrize("score", [KNN(k=61), NNGuide(k=61)], ids=repr)
def test_too_few_images(score):
    with pytest.raises(MmoodError, match=r"k is 61, but the ID training set 'tiny' has only 60 images"):
        score.fit(with_prototypes())


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("score", [KNN(), NNGuide()], ids=repr)
def test_a_value_that_is_not_finite_is_named(score, value):
    reference = with_head()
    reference.features[17, 2] = value
    with pytest.raises(MmoodError, match=r"features of key 1017 in the ID training set 'tiny' hold a NaN"):
        score.fit(reference)


def test_sentences():
    reference = with_head()
    with pytest.raises(MmoodError, match=r"KNN is not fitted yet; call KNN.fit"):
        KNN()(queries(reference))
    with pytest.raises(MmoodError, match="no joint embedding"):
        KNN(reads="embedding").fit(reference)
    with pytest.raises(MmoodError, match=r"KNN\.k is 0"):
        KNN(k=0)
    with pytest.raises(MmoodError, match=r"NNGuide\.temperature is 0; it must"):
        NNGuide(temperature=0)
    assert KNN(k=3).settings() == {"k": 3, "reads": "features", "average": False, "shots": None, "search": "exact"}
