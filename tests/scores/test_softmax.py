"""The shared softmax against direct formulas, far out where these underflow too; and that it is shared."""

import doctest

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, logsumexp

from mmood.scores import GEN, MCM, Embedded, Energy, Entropy, SoftmaxVariance, softmax
from mmood.scores.softmax import Softmax


def test_examples():
    assert doctest.testmod(softmax, extraglobs={"torch": torch}).failed == 0


def logits(kind):
    random = torch.Generator().manual_seed(0)
    drawn = torch.randn(40, 30, generator=random, dtype=torch.float64)
    if kind == "masked":
        drawn[:, 3:9] = -torch.inf
        drawn[0, 1:] = -torch.inf
    if kind == "ties":
        drawn = drawn.round()
    return drawn * {"near": 1e-3, "far": 3000.0}.get(kind, 1.0)


@pytest.mark.parametrize("kind", ["plain", "near", "far", "ties", "masked"])
def test_all_parts_are_those_of_direct_formulas(kind):
    z = logits(kind)
    found = Softmax(z)
    log_p = log_softmax(z.numpy(), axis=1)
    where = z.argmax(dim=1).numpy()
    others = np.where(np.arange(30) == where[:, None], -np.inf, z.numpy())
    with np.errstate(divide="ignore", invalid="ignore"):
        odds = z.numpy().max(axis=1) - logsumexp(others, axis=1)
        terms = np.where(np.isneginf(log_p), 0.0, np.exp(log_p) * log_p)
    np.testing.assert_allclose(found.log_odds, odds, rtol=1e-12)
    np.testing.assert_allclose(found.log_sum_exp, logsumexp(z.numpy(), axis=1), rtol=1e-12)
    np.testing.assert_allclose(found.entropy, -terms.sum(axis=1), rtol=1e-9, atol=1e-300 if kind != "far" else 1e-12)
    rest = np.where(np.arange(30) == where[:, None], -np.inf, log_p)
    np.testing.assert_allclose(found.log_others(), rest, rtol=1e-12)
    np.testing.assert_allclose(found.others(), np.exp(rest), rtol=1e-9)
    assert found.others().max() <= 0.5


def test_scores_of_one_temperature_share_the_exponentials(monkeypatch):
    made = []
    of = Softmax.of
    monkeypatch.setattr(Softmax, "of", lambda *arguments: made.append(arguments) or of(*arguments))
    batch = Embedded(torch.zeros(5, 2), torch.randn(5, 7, generator=torch.Generator().manual_seed(0)))
    apart = [score(Embedded(batch.features, batch.logits)) for score in scores()]
    made.clear()
    together = [score(batch) for score in scores()]
    assert len(made) == 2, "one for each temperature"
    assert all(torch.equal(one, other) for one, other in zip(apart, together, strict=True))


def scores():
    return [MCM(), Energy(), Entropy(), SoftmaxVariance(), GEN(), MCM(0.01), Energy(0.01)]
