"""Scores on logits against direct formulas in float64, at both of the temperatures that the field uses."""

import doctest

import numpy as np
import pytest
import torch
from scipy.special import entr, logsumexp, softmax

from mmood.errors import MmoodError
from mmood.scores import GEN, MCM, Embedded, Energy, Entropy, Margin, MaxLogit, SoftmaxVariance, functional


@pytest.fixture
def cosines():
    generator = torch.Generator().manual_seed(0)
    return torch.rand(64, 50, generator=generator) * 0.3 + 0.05


def embedded(logits):
    return Embedded(features=logits, logits=logits)


TEMPERATURES = [1.0, 0.01]


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_mcm_is_the_log_odds_of_the_largest_probability(cosines, temperature):
    p = softmax(cosines.double().numpy() / temperature, axis=1).max(axis=1)
    np.testing.assert_allclose(MCM(temperature)(embedded(cosines)), np.log(p / (1 - p)), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(functional.max_softmax(cosines.double(), temperature), p, rtol=1e-12)


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_energy_is_a_scaled_log_sum_exp(cosines, temperature):
    expected = temperature * logsumexp(cosines.double().numpy() / temperature, axis=1)
    np.testing.assert_allclose(Energy(temperature)(embedded(cosines)), expected, rtol=1e-6)


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_entropy_is_the_log_odds_of_its_share(cosines, temperature):
    h = entr(softmax(cosines.double().numpy() / temperature, axis=1)).sum(axis=1)
    np.testing.assert_allclose(functional.entropy(cosines.double(), temperature), h, rtol=1e-12)
    share = 1 - h / np.log(50)
    np.testing.assert_allclose(Entropy(temperature)(embedded(cosines)), np.log(share / (1 - share)), rtol=1e-5)


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_softmax_variance_is_that_of_numpy(cosines, temperature):
    expected = softmax(cosines.double().numpy() / temperature, axis=1).var(axis=1)
    np.testing.assert_allclose(SoftmaxVariance(temperature)(embedded(cosines)), expected, rtol=1e-6)


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("top", [None, 10])
def test_gen_counts_from_the_uniform_distribution(cosines, temperature, top):
    p = np.sort(softmax(cosines.double().numpy() / temperature, axis=1), axis=1)[:, ::-1][:, :top]
    uniform = p.shape[1] * (1 / 50 * 49 / 50) ** 0.1
    expected = uniform - ((p * (1 - p)) ** 0.1).sum(axis=1)
    np.testing.assert_allclose(GEN(temperature, top=top)(embedded(cosines)), expected, rtol=1e-5, atol=1e-6)


def test_max_logit_and_margin(cosines):
    ranked = np.sort(cosines.numpy(), axis=1)
    np.testing.assert_array_equal(MaxLogit()(embedded(cosines)), ranked[:, -1])
    np.testing.assert_array_equal(Margin()(embedded(cosines)), ranked[:, -1] - ranked[:, -2])


@pytest.mark.parametrize("score", [MCM(0.01), Entropy(0.01), GEN(0.01), Energy(0.01)], ids=lambda s: type(s).__name__)
def test_confident_images_do_not_tie(score):
    # Probabilities that all are 1.0 in float32.
    logits = torch.zeros(40, 10)
    logits[:, 0] = torch.linspace(0.3, 0.9, 40)
    values = score(embedded(logits)).double().numpy()
    assert len(np.unique(values)) == 40
    assert (np.diff(values) > 0).all()


@pytest.mark.parametrize("score", [Entropy(), GEN(), SoftmaxVariance(), MCM()], ids=lambda s: type(s).__name__)
def test_nearly_uniform_probabilities_do_not_tie(score):
    # 1,000 raw cosines at temperature 1: what float32 arithmetic on the plain formula reduces to a few hundred values.
    generator = torch.Generator().manual_seed(1)
    logits = 0.2 + 0.03 * torch.randn(2000, 1000, generator=generator)
    values = score(embedded(logits))
    assert values.dtype == torch.float32
    assert len(values.unique()) > 1900


def test_one_class_is_certain():
    one = torch.tensor([[0.2], [0.3]])
    assert torch.isposinf(MCM()(embedded(one))).all()
    assert torch.isposinf(Margin()(embedded(one))).all()
    for score in (Energy(), Entropy(), SoftmaxVariance(), GEN()):
        assert torch.isfinite(score(embedded(one))).all()


def test_all_scores_rank_a_confident_image_above_a_doubtful_one():
    logits = torch.tensor([[0.9, 0.1, 0.1], [0.3, 0.28, 0.29]])
    for score in (MCM(), MaxLogit(), Energy(), Entropy(), SoftmaxVariance(), GEN(), Margin()):
        confident, doubtful = score(embedded(logits))
        assert confident > doubtful, type(score).__name__


def test_settings_name_what_the_number_depends_on():
    assert MCM(0.5).settings() == {"temperature": 0.5}
    assert GEN(gamma=0.2).settings() == {"temperature": 1.0, "gamma": 0.2, "top": None}
    assert MaxLogit().settings() == {}


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
def test_a_temperature_that_divides_nothing_is_refused(temperature):
    with pytest.raises(MmoodError, match=r"MCM\.temperature is"):
        MCM(temperature)


def test_examples_in_the_docstrings():
    assert doctest.testmod(functional).failed == 0
