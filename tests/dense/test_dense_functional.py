"""Dense scores: pixel by pixel against the formula, in float64."""

import math

import numpy as np
import pytest
import torch

from mmood.dense.functional import (
    Moments,
    energy,
    entropy,
    max_logit,
    max_softmax,
    pooled,
    standardised_max_logit,
)

LOGITS = torch.randn(2, 5, 3, 4, generator=torch.Generator().manual_seed(0)) * 3


def literal(formula):
    found = torch.empty(2, 3, 4, dtype=torch.float64)
    for image in range(2):
        for y in range(3):
            for x in range(4):
                found[image, y, x] = formula(LOGITS[image, :, y, x].double().tolist())
    return found


def softmax(values):
    total = sum(math.exp(v) for v in values)
    return [math.exp(v) / total for v in values]


def test_max_softmax_is_the_log_odds():
    wanted = literal(lambda values: math.log(max(softmax(values)) / (1 - max(softmax(values)))))
    torch.testing.assert_close(max_softmax(LOGITS).double(), wanted, atol=1e-5, rtol=1e-5)


def test_max_softmax_does_not_saturate():
    logits = torch.tensor([60.0, 0.0, 61.0, 0.0]).view(2, 2, 1, 1)
    assert max_softmax(logits).flatten().diff() > 0


def test_energy_and_max_logit():
    wanted = literal(lambda values: 2 * math.log(sum(math.exp(v / 2) for v in values)))
    torch.testing.assert_close(energy(LOGITS, 2.0).double(), wanted, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(max_logit(LOGITS).double(), literal(max))


def test_entropy_is_normalised():
    wanted = literal(lambda values: 1 + sum(p * math.log(p) for p in softmax(values)) / math.log(5))
    torch.testing.assert_close(entropy(LOGITS).double(), wanted, atol=1e-5, rtol=1e-5)
    assert entropy(torch.zeros(1, 7, 1, 1)).item() == pytest.approx(0, abs=1e-6)
    assert entropy(torch.tensor([500.0, 0.0]).view(1, 2, 1, 1)).item() == 1


def test_standardised_by_the_moments_of_training():
    top, predicted = LOGITS.max(dim=1)
    moments = Moments(5)
    for image in range(2):
        moments.add(top[image].flatten(), predicted[image].flatten())
    mean, std = moments.mean_and_std()
    for c in range(5):
        values = top[predicted == c].double().numpy()
        own = values if len(values) else top.double().numpy()
        assert mean[c].item() == pytest.approx(np.mean(own), abs=1e-5)
        assert std[c].item() == pytest.approx(max(np.std(own), 1e-6), abs=1e-5)
    found = standardised_max_logit(LOGITS, mean, std)
    torch.testing.assert_close(found, (top - mean[predicted]) / std[predicted])


@pytest.mark.parametrize("share", [0.01, 0.25, 1.0])
def test_pooling_looks_at_the_most_uncertain(share):
    scores = torch.randn(3, 6, 7, generator=torch.Generator().manual_seed(1))
    ordered = np.sort(scores.flatten(1).numpy(), axis=1)
    count = max(1, math.ceil(share * 42))
    np.testing.assert_allclose(pooled(scores, "max", share), ordered[:, 0])
    np.testing.assert_allclose(pooled(scores, "top_share", share), ordered[:, :count].mean(axis=1), rtol=1e-5)
    np.testing.assert_allclose(pooled(scores, "quantile", share), ordered[:, count - 1])
