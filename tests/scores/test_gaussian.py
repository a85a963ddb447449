import doctest
from dataclasses import replace

import numpy as np
import pytest
import torch
from bank_fakes import queries, wide, with_head, with_prototypes

from mmood.errors import MmoodError
from mmood.scores import bank, functional_gaussian
from mmood.scores.base import Embedded
from mmood.scores.gaussian import Mahalanobis, RelativeMahalanobis

BOTH = pytest.mark.parametrize("score", [Mahalanobis, RelativeMahalanobis])
COVARIANCES = pytest.mark.parametrize("covariance", ["pooled", "mean_of_classes"])


def distances(rows, bank_rows, labels, covariance):
    """M_c of every class and M_0 by their definitions, in float64."""
    kinds = np.unique(labels)
    within = [np.cov(bank_rows[labels == kind].T) for kind in kinds]
    centred = np.concatenate([bank_rows[labels == kind] - bank_rows[labels == kind].mean(0) for kind in kinds])
    shared = np.mean(within, axis=0) if covariance == "mean_of_classes" else np.cov(centred.T, bias=True)
    total = np.cov(bank_rows.T, bias=covariance == "pooled")

    def squared(mean, matrix):
        gap = rows - mean
        return np.einsum("bf,fg,bg->b", gap, np.linalg.inv(matrix), gap)

    per_class = np.stack([squared(bank_rows[labels == kind].mean(0), shared) for kind in kinds], axis=1)
    return per_class, squared(bank_rows.mean(0), total)


def test_examples():
    assert not doctest.testmod(functional_gaussian).failed


@COVARIANCES
def test_both_scores_are_their_definitions(covariance, monkeypatch):
    monkeypatch.setattr(bank, "ROWS", 11)
    reference = with_head()
    images = queries(reference)
    near, background = distances(wide(images.features), wide(reference.features), reference.labels.numpy(), covariance)
    plain = Mahalanobis(covariance=covariance, ridge=0.0).fit(reference)(images)
    relative = RelativeMahalanobis(covariance=covariance, ridge=0.0).fit(reference)(images)
    assert plain.dtype == relative.dtype == torch.float32
    np.testing.assert_allclose(plain, -near.min(axis=1), rtol=1e-5)
    np.testing.assert_allclose(relative, background - near.min(axis=1), rtol=1e-5, atol=1e-5)


def test_pooled_covariance_is_scikit_learns():
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    reference = with_head()
    oracle = LinearDiscriminantAnalysis(solver="lsqr", store_covariance=True)
    oracle.fit(wide(reference.features), reference.labels.numpy())
    whitening = Mahalanobis(ridge=0.0).fit(reference).classes_.whitening.numpy()
    np.testing.assert_allclose(np.linalg.inv(whitening.T @ whitening), oracle.covariance_, rtol=1e-8)


@pytest.mark.parametrize("make", [with_head, with_prototypes])
@BOTH
def test_logits_of_the_bank_are_those_of_the_module(make, score):
    reference = make(images=80)
    images = queries(reference)
    if reference.weight is None:
        bank_logits = wide(reference.embedding) @ wide(reference.prototypes).T
    else:
        bank_logits = wide(reference.features) @ wide(reference.weight).T + wide(reference.bias)
    near, background = distances(wide(images.logits), bank_logits, reference.labels.numpy(), "pooled")
    expected = -near.min(axis=1) + (background if score is RelativeMahalanobis else 0)
    np.testing.assert_allclose(score(reads="logits", ridge=0.0).fit(reference)(images), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("make", [with_head, with_prototypes])
@BOTH
def test_predicted_labels_are_those_of_the_logits_and_the_given_ones_are_not_read(make, score):
    reference = make(images=80)
    images = queries(reference)
    if reference.weight is None:
        logits = wide(reference.embedding) @ wide(reference.prototypes).T
    else:
        logits = wide(reference.features) @ wide(reference.weight).T + wide(reference.bias)
    predicted = logits.argmax(axis=1)
    assert (predicted != reference.labels.numpy()).any()
    near, background = distances(wide(images.features), wide(reference.features), predicted, "pooled")
    expected = -near.min(axis=1) + (background if score is RelativeMahalanobis else 0)
    found = score(ridge=0.0, labels="predicted").fit(reference)(images)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    shuffled = replace(reference, labels=reference.labels.roll(7))
    assert torch.equal(score(ridge=0.0, labels="predicted").fit(shuffled)(images), found)


def test_the_embedding_is_read_where_asked():
    reference = with_prototypes()
    images = queries(reference)
    as_features = replace(reference, features=reference.embedding)
    expected = Mahalanobis().fit(as_features)(replace(images, features=images.embedding))
    torch.testing.assert_close(Mahalanobis(reads="embedding").fit(reference)(images), expected)


@COVARIANCES
def test_relative_score_of_one_class_is_zero(covariance):
    reference = replace(with_head(), labels=torch.zeros(90, dtype=torch.int64), class_names=["one"])
    scores = RelativeMahalanobis(covariance=covariance).fit(reference)(queries(reference))
    torch.testing.assert_close(scores, torch.zeros(20), atol=1e-6, rtol=0)


def test_relative_score_is_unchanged_by_an_invertible_map():
    reference = with_head()
    images = queries(reference)
    skew = torch.randn(6, 6, generator=torch.Generator().manual_seed(3)) + 3 * torch.eye(6)
    mapped = replace(reference, features=reference.features @ skew + 1)
    before = RelativeMahalanobis(ridge=0.0).fit(reference)(images)
    after = RelativeMahalanobis(ridge=0.0).fit(mapped)(replace(images, features=images.features @ skew + 1))
    torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-3)


def test_features_far_from_zero_keep_their_digits():
    reference = with_head()
    images = queries(reference)
    shift = 2.0**12
    far = replace(reference, features=reference.features.mul(1024).round().div(1024) + shift)
    near = replace(far, features=far.features - shift)
    moved = replace(images, features=images.features.mul(1024).round().div(1024))
    expected = Mahalanobis().fit(near)(moved)
    torch.testing.assert_close(Mahalanobis().fit(far)(replace(moved, features=moved.features + shift)), expected)


@COVARIANCES
@BOTH
def test_a_constant_dimension_an_empty_class_and_a_class_of_one_image(score, covariance, caplog):
    reference = with_head()
    reference.features[:, 1] = 0.5
    reference = replace(reference, class_names=["a", "b", "c", "empty", "one"])
    reference.labels[0] = 4
    scores = score(covariance=covariance).fit(reference)(queries(reference))
    assert scores.isfinite().all()
    assert "1 ID classes have one training image" in caplog.text
    lonely = Mahalanobis(covariance=covariance).fit(reference)(reference.embedded(reference.features[:1]))
    assert lonely.item() == pytest.approx(0, abs=1e-9)


@BOTH
def test_fewer_images_than_dimensions(score):
    reference = with_head(images=8, width=32)
    assert score().fit(reference)(queries(reference)).isfinite().all()
    with pytest.raises(MmoodError, match="singular with ridge 0"):
        score(ridge=0.0).fit(reference)


@BOTH
def test_sentences(score):
    reference = with_head()
    with pytest.raises(MmoodError, match="is not fitted yet"):
        score()(queries(reference))
    with pytest.raises(MmoodError, match="ridge is -1"):
        score(ridge=-1.0)
    with pytest.raises(MmoodError, match="no joint embedding"):
        score(reads="embedding").fit(reference)
    with pytest.raises(MmoodError, match="No ID class has two training images"):
        score().fit(replace(reference, features=reference.features[:3], labels=torch.arange(3)))
    with pytest.raises(MmoodError, match="equal features"):
        score().fit(replace(reference, features=torch.ones(90, 6)))
    with pytest.raises(MmoodError, match=r"label in the ID training set 'tiny' is 2; with 2 classes"):
        score().fit(replace(reference, class_names=["a", "b"]))
    with pytest.raises(MmoodError, match="no images in the ID training set 'tiny'"):
        score().fit(replace(reference, features=torch.zeros(0, 6), labels=torch.zeros(0, dtype=torch.int64)))
    reference.features[5] = torch.nan
    with pytest.raises(MmoodError, match="features of key 1005 in the ID training set 'tiny'"):
        score().fit(reference)


@BOTH
def test_an_empty_batch_has_no_scores(score):
    assert score().fit(with_head())(Embedded(torch.zeros(0, 6), torch.zeros(0, 3))).shape == (0,)
