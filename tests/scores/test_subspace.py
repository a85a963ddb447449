import doctest
from dataclasses import replace

import numpy as np
import pytest
import torch
from bank_fakes import queries, wide, with_embedding_head, with_head, with_prototypes

from mmood.errors import MmoodError
from mmood.scores import functional_subspace as functional
from mmood.scores.base import Embedded
from mmood.scores.subspace import Residual, ViM


def oracle(rows, bank, origin, dimension):
    """Distances from the span of the leading right singular vectors, by projection onto it."""
    _, _, directions = np.linalg.svd(bank - origin, full_matrices=False)
    principal = directions[:dimension].T

    def residual(x):
        return np.linalg.norm((x - origin) - (x - origin) @ principal @ principal.T, axis=1)

    return residual(rows), residual(bank)


def logsumexp(logits):
    return np.log(np.exp(logits).sum(axis=1))


def test_examples():
    assert not doctest.testmod(functional).failed


@pytest.mark.parametrize("dimension", [1, 3, 5])
def test_residual_and_vim_on_features(dimension):
    reference = with_head()
    images = queries(reference)
    origin = -np.linalg.pinv(wide(reference.weight)) @ wide(reference.bias)
    expected, of_bank = oracle(wide(images.features), wide(reference.features), origin, dimension)
    np.testing.assert_allclose(Residual(dimension=dimension).fit(reference)(images), -expected, rtol=1e-5, atol=1e-6)
    bank_logits = wide(reference.features) @ wide(reference.weight).T + wide(reference.bias)
    alpha = bank_logits.max(axis=1).mean() / of_bank.mean()
    score = ViM(dimension=dimension).fit(reference)
    assert score.alpha_ == pytest.approx(alpha, rel=1e-6)
    np.testing.assert_allclose(score(images), logsumexp(wide(images.logits)) - alpha * expected, rtol=1e-4, atol=1e-4)


def test_vim_on_embeddings_has_the_origin_zero():
    reference = with_prototypes()
    images = queries(reference)
    expected, of_bank = oracle(wide(images.embedding), wide(reference.embedding), np.zeros(5), 2)
    logits, bank_logits = (
        wide(rows) @ wide(reference.prototypes).T / 0.1 for rows in (images.embedding, reference.embedding)
    )
    alpha = bank_logits.max(axis=1).mean() / of_bank.mean()
    scores = ViM(reads="embedding", dimension=2, temperature=0.1).fit(reference)(images)
    np.testing.assert_allclose(scores, logsumexp(logits) - alpha * expected, rtol=1e-4, atol=1e-4)


def test_vim_on_embeddings_takes_origin_and_logits_of_a_trained_head():
    reference = with_embedding_head()
    images = queries(reference)
    weight, bias = wide(reference.weight), wide(reference.bias)
    expected, of_bank = oracle(wide(images.embedding), wide(reference.embedding), -np.linalg.pinv(weight) @ bias, 2)
    logits, bank_logits = (wide(rows) @ weight.T + bias for rows in (images.embedding, reference.embedding))
    alpha = bank_logits.max(axis=1).mean() / of_bank.mean()
    scores = ViM(reads="embedding", dimension=2).fit(reference)(images)
    np.testing.assert_allclose(scores, logsumexp(logits) - alpha * expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(MmoodError, match="module's head reads the embedding"):
        ViM(dimension=2).fit(reference)


def test_vim_orders_as_the_softmax_of_the_virtual_logit():
    random = np.random.default_rng(0)
    residuals, logits = random.uniform(0, 3, 50), random.normal(0, 2, (50, 4))
    virtual = 0.7 * residuals
    probability = np.exp(virtual) / (np.exp(virtual) + np.exp(logits).sum(axis=1))
    scores = functional.vim(torch.from_numpy(residuals), torch.from_numpy(logits), alpha=0.7)
    np.testing.assert_allclose(scores, np.log(1 - probability) - np.log(probability), rtol=1e-9)


def test_the_head_is_zero_at_its_origin():
    reference = with_head(width=9)
    origin = functional.head_origin(reference.weight.double(), reference.bias.double())
    torch.testing.assert_close(reference.weight.double() @ origin, -reference.bias.double())


def test_a_rotation_changes_nothing():
    reference = with_head()
    images = queries(reference)
    turn, _ = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(0)))
    turned = replace(reference, features=reference.features @ turn, weight=reference.weight @ turn)
    after = Residual(dimension=2).fit(turned)(replace(images, features=images.features @ turn))
    torch.testing.assert_close(after, Residual(dimension=2).fit(reference)(images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("score", [Residual, ViM])
def test_edges(score):
    reference = with_head()
    reference.features[:, 1] = 0.5
    reference = replace(reference, class_names=["a", "b", "c"])
    fitted = score().fit(reference)
    assert fitted(queries(reference)).isfinite().all()
    assert fitted(Embedded(torch.zeros(0, 6), torch.zeros(0, 3))).shape == (0,)
    with pytest.raises(MmoodError, match="is not fitted yet"):
        score()(queries(reference))
    with pytest.raises(MmoodError, match=r"dimension of the principal subspace is 6; it must be in \[1, 5\]"):
        score(dimension=6).fit(reference)
    with pytest.raises(MmoodError, match="needs a linear head"):
        score().fit(with_prototypes())
    reference.features[3, 3] = torch.nan
    with pytest.raises(MmoodError, match="key 1003"):
        score().fit(reference)


def test_vim_needs_a_residual():
    reference = with_head()
    reference.bias = torch.zeros(3)
    reference.features[:, 4:] = 0
    with pytest.raises(MmoodError, match=r"the residual is 0; ViM\.dimension is 5"):
        ViM(dimension=5).fit(reference)
    with pytest.raises(MmoodError, match=r"ViM\.temperature is 0"):
        ViM(temperature=0)


@pytest.mark.parametrize(("width", "dimension"), [(2048, 1000), (1280, 512), (768, 512), (512, 256)])
def test_default_dimension(width, dimension):
    assert functional.default_dimension(width) == dimension
