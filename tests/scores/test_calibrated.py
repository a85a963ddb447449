import doctest

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from mmood.errors import MmoodError
from mmood.scores import calibrated
from mmood.scores.base import Embedded
from mmood.scores.calibrated import L1Norm, fit_temperature


def draw(true_temperature, images=4000, classes=5):
    """Return logits and labels drawn from softmax(logits / T)."""
    random = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(images, classes, generator=random)
    return logits, torch.multinomial((logits / true_temperature).softmax(dim=1), 1, generator=random)[:, 0]


def test_examples():
    assert not doctest.testmod(calibrated).failed


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_temperature_is_scipys_minimum(scale):
    logits, labels = draw(1.7)

    def loss(log_temperature):
        log_p = log_softmax(logits.double().numpy() * scale / np.exp(log_temperature), axis=1)
        return -log_p[np.arange(len(labels)), labels.numpy()].mean()

    found = minimize_scalar(loss, bracket=(np.log(scale), np.log(scale) + 1), tol=1e-10)
    temperature = fit_temperature(scale * logits, labels)
    assert temperature == pytest.approx(np.exp(found.x), rel=1e-5)
    assert temperature / scale == pytest.approx(1.7, rel=0.1)


def test_a_constant_added_to_the_logits_of_an_image_changes_nothing():
    logits, labels = draw(0.5)
    shift = torch.arange(len(logits))[:, None] % 7
    assert fit_temperature(logits + shift, labels) == pytest.approx(fit_temperature(logits, labels), rel=1e-5)


def test_no_finite_temperature():
    logits, _ = draw(1.0)
    with pytest.raises(MmoodError, match="every label correctly"):
        fit_temperature(logits, logits.argmax(dim=1))
    with pytest.raises(MmoodError, match="no better than chance"):
        fit_temperature(logits, logits.argmin(dim=1))
    with pytest.raises(MmoodError, match="no better than chance"):
        fit_temperature(torch.zeros(4, 3), torch.zeros(4, dtype=torch.int64))


def test_l1_norm_is_numpys():
    logits = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)) - 5
    shifted = logits.numpy() - logits.numpy().min(axis=1, keepdims=True)
    scores = L1Norm()(Embedded(torch.zeros(6, 1), logits))
    np.testing.assert_allclose(scores, np.linalg.norm(shifted, ord=1, axis=1), rtol=1e-6)
    assert L1Norm()(Embedded(torch.zeros(0, 1), logits[:0])).shape == (0,)
