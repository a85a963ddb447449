"""MMP and COOkeD: means of probabilities, against the textbook in float64."""

import math
from types import SimpleNamespace

import pytest
import torch
from bank_fakes import with_prototypes
from torch.nn.functional import normalize

from mmood.errors import MmoodError
from mmood.scores import MCM, MMP, COOkeD, Embedded, Entropy
from mmood.scores.base import LinearHead
from mmood.scores.functional_mixtures import log_mean_softmax, mean_log_odds


def rows(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def images(reference, count=9):
    return reference.embedded(rows(count, 7, seed=4), normalize(rows(count, 5, seed=5), dim=1))


def test_mean_of_log_odds():
    probabilities = torch.tensor([[0.2, 0.9], [0.7, 0.1], [0.5, 0.5]], dtype=torch.float64)
    found = mean_log_odds(list(probabilities.logit()), [1.0, 3.0, 0.0])
    expected = (probabilities[0] + 3 * probabilities[1]) / 4
    assert torch.allclose(found, expected.logit())
    extreme = mean_log_odds([torch.tensor([1e4, -1e4]), torch.tensor([2e4, -2e4])], [1.0, 1.0])
    assert torch.allclose(extreme, torch.tensor([1e4, -1e4]), atol=1)


@pytest.mark.parametrize("temperature", [1.0, 0.01])
def test_mmp_is_the_mean_of_two_mcm(temperature):
    reference = with_prototypes()
    batch = images(reference)
    found = MMP(temperature).fit(reference)(batch)
    texts = reference.prototypes.double()
    means = torch.stack([reference.embedding[reference.labels == c].double().mean(dim=0) for c in range(3)])
    parts = [(batch.embedding.double() @ normalize(p, dim=1).T / temperature).softmax(dim=1) for p in (texts, means)]
    expected = (parts[0].amax(dim=1) + parts[1].amax(dim=1)) / 2
    assert torch.allclose(found.double().sigmoid(), expected, rtol=1e-5)


def test_mmp_of_equal_prototypes_is_mcm():
    reference = with_prototypes()
    reference.embedding = reference.prototypes[reference.labels]
    batch = images(reference)
    assert torch.allclose(MMP(0.1).fit(reference)(batch), MCM(0.1)(batch), atol=1e-6)


HEADS = (
    LinearHead("embedding", rows(3, 5, seed=6), rows(3, seed=7)),
    LinearHead("features", rows(3, 7, seed=8), rows(3, seed=9)),
)


def cooked(heads=HEADS, **settings):
    reference = with_prototypes()
    return COOkeD(**settings).fit(SimpleNamespace(prototypes=reference.prototypes, heads=lambda: heads))


def three(batch):
    """Return the three classifiers' logits in float64."""
    prototypes = with_prototypes().prototypes.double()
    embedding, features = batch.embedding.double(), batch.features.double()
    probe = embedding @ HEADS[0].weight.double().T + HEADS[0].bias.double()
    closed = features @ HEADS[1].weight.double().T + HEADS[1].bias.double()
    return [embedding @ prototypes.T / 0.01, probe, closed]


def test_cooked_is_the_mean_of_three_softmaxes():
    batch = images(with_prototypes())
    mean = torch.stack([one.softmax(dim=1) for one in three(batch)]).mean(dim=0)
    assert torch.allclose(cooked()(batch).double().sigmoid(), mean.amax(dim=1), rtol=1e-5)
    entropy = -(mean * mean.log()).sum(dim=1)
    share = cooked(criterion="entropy")(batch).double().sigmoid()
    assert torch.allclose(share, 1 - entropy / math.log(3), rtol=1e-4)


def test_cooked_takes_the_heads_in_any_order():
    batch = images(with_prototypes())
    assert torch.equal(cooked(HEADS[::-1])(batch), cooked()(batch))


def test_a_mean_is_less_certain_than_its_parts():
    """Jensen: the entropy of the mean is at least the mean of the entropies."""
    parts = three(images(with_prototypes()))
    entropies = torch.stack([torch.distributions.Categorical(logits=one).entropy() for one in parts]).mean(dim=0)
    assert (torch.distributions.Categorical(logits=log_mean_softmax(parts)).entropy() >= entropies).all()


def test_three_times_the_same_classifier_is_that_classifier():
    logits = rows(6, 4, seed=3).double()
    assert torch.allclose(log_mean_softmax([logits] * 3), logits.log_softmax(dim=1))
    batch = Embedded(rows(6, 2, seed=1), logits.float())
    assert torch.allclose(Entropy()(batch), Entropy()(Embedded(batch.features, log_mean_softmax([logits] * 3).float())))


@pytest.mark.parametrize(("heads", "missing"), [((), "embedding"), (HEADS[1:], "embedding"), (HEADS[:1], "features")])
def test_cooked_says_which_head_is_missing(heads, missing):
    with pytest.raises(MmoodError, match=f"COOkeD needs a trained linear head on the {missing}, .*grid.reads"):
        cooked(heads)
