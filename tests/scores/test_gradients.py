"""Every declared score: its gradient against finite differences, and that its objective orders images as it does."""

import dataclasses
import inspect

import pytest
import torch
from bank_fakes import with_head
from test_portable import STATIC, fitted, maps_of
from torch.nn.functional import normalize

import mmood.scores as scores
from mmood.scores.base import AbstractScore, Embedded
from mmood.scores.test_time.base import AbstractStreamScore

SEVERAL_GROUPS = ("NegLabel", "CSP")
"""Their objective is a mean over groups of what S is a mean of sigmoids of."""
H = 1e-6


def wide(value):
    """Return what a score has learned in float64."""
    if isinstance(value, torch.Tensor):
        return value.double() if value.is_floating_point() else value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.replace(value, **{f.name: wide(getattr(value, f.name)) for f in dataclasses.fields(value)})
    return value


def tower(images):
    """Return a smooth image of pixels: features, logits, embedding and patches."""
    random = torch.Generator().manual_seed(3)
    first, second = (torch.randn(*size, generator=random).double() for size in ((12, 8), (8, 6)))
    head = with_head()
    features = 2 * torch.tanh(images.flatten(1) @ first) @ second
    logits = 0.3 * (features @ head.weight.double().T + head.bias.double())
    return Embedded(features, logits, normalize(features, dim=1), *maps_of(features))


def pixels(count=12):
    return torch.rand(count, 3, 2, 2, generator=torch.Generator().manual_seed(4)).double()


@pytest.fixture
def prepared(monkeypatch):
    """Return what fits a score, and lets it compute in float64 to the end: in float32, differences would be noise."""
    return lambda name: _widened(fitted(name), monkeypatch)


def _widened(score, monkeypatch):
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    for attribute, value in vars(score).items():
        if attribute.endswith("_"):
            setattr(score, attribute, wide(value))
    return score


@pytest.mark.parametrize("reads", ["forward", "objective"])
@pytest.mark.parametrize("name", STATIC)
def test_the_gradient_is_that_of_finite_differences(name, reads, prepared):
    score = prepared(name)
    assert score.differentiable
    value = getattr(score, reads)
    images = pixels().requires_grad_()
    (gradient,) = torch.autograd.grad(value(tower(images)).sum(), images)
    direction = torch.randn(images.shape, generator=torch.Generator().manual_seed(5)).double()
    with torch.no_grad():
        up, down = (value(tower(images + sign * H * direction)) for sign in (1, -1))
    along = (gradient * direction).flatten(1).sum(dim=1)
    assert along.abs().min() > 0
    torch.testing.assert_close(along, (up - down) / (2 * H), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", [name for name in STATIC if name not in SEVERAL_GROUPS])
def test_the_objective_orders_images_as_the_score_does(name, prepared):
    score = prepared(name)
    embedded = tower(pixels(count=200))
    values, objectives = score(embedded), score.objective(embedded)
    assert objectives.isfinite().all()
    order = values.argsort()
    assert (objectives[order].diff() >= -1e-9 * objectives.abs().max()).all()


@pytest.mark.parametrize("name", SEVERAL_GROUPS)
def test_the_objective_of_one_group_is_the_score(name, prepared):
    score = prepared(name)
    score.texts_ = dataclasses.replace(score.texts_, groups=1)
    embedded = tower(pixels())
    torch.testing.assert_close(score.objective(embedded), score(embedded))


@pytest.mark.parametrize("name", ["EOE", "SoftmaxVariance", "GEN", "LocalPromptScore", "MCM", "NegLabel", "Entropy"])
def test_no_objective_saturates_at_a_certain_class(name, prepared):
    """Where the score itself has stopped to move, by probabilities of 1e-9 and less."""
    score = prepared(name)
    score.temperature = 0.02
    images = pixels().requires_grad_()
    (gradient,) = torch.autograd.grad(score.objective(tower(images)).sum(), images)
    assert gradient.isfinite().all()
    assert (gradient.flatten(1).norm(dim=1) > 1e-5).all()


def test_scores_without_a_gradient_say_so():
    streams = [
        kind
        for name in scores.__all__
        if issubclass(kind := getattr(scores, name), AbstractStreamScore) and not inspect.isabstract(kind)
    ]
    assert streams
    assert not any(kind.differentiable for kind in streams)
    assert all(kind.differentiable for kind in (AbstractScore, scores.KNN))
    assert scores.KNN().differentiable


def test_an_approximate_search_has_no_gradient():
    pytest.importorskip("faiss")
    assert not scores.KNN(search="approximate").differentiable
