"""Scores of sigmoid towers: products over classes in float64, and what the bias changes."""

import math
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import normalize

from mmood.encoders import EncoderSettings, build_encoder
from mmood.errors import MmoodError
from mmood.modules.reference import ModelReference
from mmood.scores import Embedded, MaxLogit, NoisyOr, SigmoidMax
from mmood.scores.functional import noisy_or_log_odds
from mmood.scores.sigmoid import SigmoidTexts


def unit(*shape, seed):
    return normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


TEXTS = SigmoidTexts(unit(6, 8, seed=1), 30.0, -12.0)


def images(count=20):
    embedding = unit(count, 8, seed=2)
    return Embedded(torch.zeros(count, 3), embedding @ TEXTS.prototypes.T, embedding)


@pytest.mark.parametrize("kind", [SigmoidMax, NoisyOr])
def test_scale_and_bias_are_the_models(kind, toy_sigmoid_model):
    encoder = build_encoder(EncoderSettings(toy_sigmoid_model)).eval()
    with torch.no_grad():
        score = kind().fit(ModelReference(encoder, ["cat", "old dog"], ["a {}"]))
        embedding = unit(3, 16, seed=5)
        found = score(Embedded(embedding, embedding[:, :2], embedding)).double()
        logits = encoder.model.logit_scale.exp() * embedding @ encoder.prototypes(["cat", "old dog"], ["a {}"]).T - 10.0
    probabilities = logits.double().sigmoid()
    expected = probabilities.amax(dim=1) if kind is SigmoidMax else 1 - (1 - probabilities).prod(dim=1)
    assert torch.allclose(found.sigmoid(), expected, rtol=1e-4)
    assert score.details()["logit_bias"] == -10.0


def test_a_softmax_model_is_refused(toy_model, toy_sigmoid_model):
    plain, filled = (build_encoder(EncoderSettings(name)).eval() for name in (toy_model, toy_sigmoid_model))
    with pytest.raises(MmoodError, match="has no logit bias, so it was not trained with a sigmoid"):
        SigmoidMax().fit(ModelReference(plain, ["cat"], ["a {}"]))
    # open_clip puts 0 in the place of a bias that a checkpoint lacks.
    with torch.no_grad():
        filled.model.logit_bias.zero_()
    with pytest.raises(MmoodError, match="has a logit bias of 0"):
        NoisyOr().fit(ModelReference(filled, ["cat"], ["a {}"]))


def fitted(kind, texts=TEXTS):
    score = kind()
    score.texts_ = texts
    return score


def test_noisy_or_is_one_minus_the_product():
    batch = images()
    found = fitted(NoisyOr)(batch).double().sigmoid()
    probabilities = 1 / (1 + torch.exp(-(30.0 * batch.logits.double() - 12.0)))
    assert torch.allclose(found, 1 - (1 - probabilities).prod(dim=1), rtol=1e-5)


def test_sigmoid_max_orders_as_the_largest_cosine():
    batch = images()
    found = fitted(SigmoidMax)(batch)
    assert torch.allclose(found, 30.0 * batch.logits.amax(dim=1) - 12.0, atol=1e-5)
    assert torch.equal(found.argsort(), MaxLogit()(batch).argsort())


def test_one_class_is_its_sigmoid():
    logits = torch.linspace(-40, 40, 9, dtype=torch.float64)
    assert torch.allclose(noisy_or_log_odds(logits[:, None]), logits)


@pytest.mark.parametrize("classes", [2, 1000])
def test_identical_classes(classes):
    logit = torch.tensor([[-9.0]], dtype=torch.float64)
    rest = (1 - torch.sigmoid(logit)) ** classes
    assert noisy_or_log_odds(logit.expand(1, classes)).item() == pytest.approx(math.log((1 - rest) / rest), rel=1e-9)


def test_nothing_saturates():
    """Of ten thousand classes, none present or one certainly: probabilities of 0 and 1 in float32."""
    for logit in (-200.0, 200.0):
        logits = torch.full((3, 10_000), -200.0)
        logits[:, 0] = torch.tensor([logit, logit + 1, logit + 2])
        assert noisy_or_log_odds(logits.double()).float().diff().min() > 0


def test_the_bias_counts_for_the_noisy_or_alone():
    batch, shifted = images(), replace(TEXTS, bias=-2.0)
    assert torch.equal(fitted(SigmoidMax)(batch).argsort(), fitted(SigmoidMax, shifted)(batch).argsort())
    assert not torch.equal(fitted(NoisyOr)(batch).argsort(), fitted(NoisyOr, shifted)(batch).argsort())
