import doctest
from dataclasses import replace

import numpy as np
import pytest
import torch
from bank_fakes import queries, wide, with_embedding_head, with_head, with_prototypes
from scipy.special import log_softmax, softmax
from scipy.stats import entropy

from mmood.errors import MmoodError
from mmood.scores import patterns
from mmood.scores.base import Embedded
from mmood.scores.patterns import SHE, KLMatching


def test_examples():
    assert not doctest.testmod(patterns).failed


def test_she_is_its_definition():
    reference = with_head()
    images = queries(reference)
    rows, labels = wide(reference.features), reference.labels.numpy()
    predicted = (rows @ wide(reference.weight).T + wide(reference.bias)).argmax(axis=1)
    assert (predicted != labels).sum() > 0
    means = np.stack([rows[(labels == c) & (predicted == c)].mean(axis=0) for c in range(3)])
    expected = (wide(images.features) * means[wide(images.logits).argmax(axis=1)]).sum(axis=1)
    np.testing.assert_allclose(SHE().fit(reference)(images), expected, rtol=1e-4, atol=1e-4)


def test_she_of_a_class_never_right_takes_all_its_images_and_of_an_empty_one_is_never_predicted():
    reference = with_prototypes()
    # Class 2 is called 3, so that no image of class 2 is there, and class 3 is never predicted.
    lower = torch.full((1, 5), 0.0)
    reference = replace(
        reference,
        labels=torch.where(reference.labels == 2, 3, reference.labels),
        class_names=["a", "b", "empty", "never right"],
        prototypes=torch.cat([reference.prototypes, lower]),
    )
    score = SHE(reads="embedding").fit(reference)
    assert score.present_.tolist() == [True, True, False, True]
    mean = reference.embedding[reference.labels == 3].mean(dim=0)
    torch.testing.assert_close(score.patterns_[3], mean)
    image = reference.embedded(
        torch.zeros(1, 7), -torch.nn.functional.normalize(reference.prototypes[:2].sum(0, True), dim=1)
    )
    image = replace(image, logits=torch.tensor([[-0.5, -0.5, 0.9, 0.0]]))
    torch.testing.assert_close(score(image), image.embedding @ mean)


@pytest.mark.parametrize("temperature", [1.0, 0.3])
def test_kl_matching_is_scipys_entropy(temperature):
    reference = with_head()
    images = queries(reference)
    p_bank = softmax((wide(reference.features) @ wide(reference.weight).T + wide(reference.bias)) / temperature, axis=1)
    predicted = p_bank.argmax(axis=1)
    templates = np.stack([p_bank[predicted == c].mean(axis=0) for c in range(3)])
    p = softmax(wide(images.logits) / temperature, axis=1)
    expected = [-min(entropy(row, template) for template in templates) for row in p]
    scores = KLMatching(temperature).fit(reference)(images)
    np.testing.assert_allclose(scores, expected, rtol=1e-3, atol=1e-6)


def test_kl_matching_with_vanishing_probabilities_and_classes_never_predicted():
    reference = with_head()
    reference = replace(
        reference,
        weight=torch.cat([1e4 * reference.weight, torch.zeros(1, 6)]),
        bias=torch.cat([1e4 * reference.bias, torch.tensor([-1e9])]),
        class_names=["a", "b", "c", "never"],
    )
    score = KLMatching().fit(reference)
    assert score.log_templates_.shape == (3, 4)
    scores = score(queries(reference))
    assert scores.isfinite().all()
    assert (scores <= 1e-6).all()


def test_kl_matching_and_she_take_the_logits_of_a_trained_head_on_embeddings():
    reference = with_embedding_head()
    images = queries(reference)
    bank_logits = wide(reference.embedding) @ wide(reference.weight).T + wide(reference.bias)
    bank, predicted = softmax(bank_logits, axis=1), bank_logits.argmax(axis=1)
    templates = np.stack([bank[predicted == c].mean(axis=0) for c in range(3) if (predicted == c).any()])
    expected = [-min(entropy(row, template) for template in templates) for row in softmax(wide(images.logits), axis=1)]
    np.testing.assert_allclose(KLMatching().fit(reference)(images), expected, rtol=1e-3, atol=1e-6)
    # The text prototypes would predict other classes.
    cosines = wide(reference.embedding) @ wide(reference.prototypes).T
    assert (cosines.argmax(axis=1) != predicted).any()


def test_kl_matching_on_cosines():
    reference = with_prototypes()
    images = queries(reference)
    log_p = log_softmax(wide(images.logits), axis=1)
    bank = softmax(wide(reference.embedding) @ wide(reference.prototypes).T, axis=1)
    templates = np.stack([bank[bank.argmax(axis=1) == c].mean(axis=0) for c in range(3)])
    divergence = (np.exp(log_p)[:, None] * (log_p[:, None] - np.log(templates))).sum(axis=2)
    np.testing.assert_allclose(KLMatching().fit(reference)(images), -divergence.min(axis=1), rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("score", [SHE, KLMatching])
def test_edges(score):
    reference = with_head()
    with pytest.raises(MmoodError, match="is not fitted yet"):
        score()(queries(reference))
    assert score().fit(reference)(Embedded(torch.zeros(0, 6), torch.zeros(0, 3))).shape == (0,)
    reference.features[:, 1] = 0.5
    assert score().fit(reference)(queries(reference)).isfinite().all()
    reference.features[3, 3] = torch.nan
    with pytest.raises(MmoodError, match="key 1003"):
        score().fit(reference)


def test_kl_matching_temperature():
    with pytest.raises(MmoodError, match=r"KLMatching\.temperature is 0"):
        KLMatching(temperature=0)
