import doctest
from dataclasses import replace

import numpy as np
import pytest
import torch
from bank_fakes import queries, wide, with_head, with_prototypes

from mmood.errors import MmoodError
from mmood.scores import functional_activations as functional
from mmood.scores.activations import ASH, SCALE, ReAct
from mmood.scores.base import Embedded

ALL = pytest.mark.parametrize(
    "score", [ReAct(), ASH("s"), ASH("b"), ASH("p"), SCALE()], ids=["react", "ash-s", "ash-b", "ash-p", "scale"]
)


def energy(features, reference, temperature=1.0):
    logits = (features @ wide(reference.weight).T + wide(reference.bias)) / temperature
    return temperature * np.log(np.exp(logits - logits.max()).sum(axis=1)) + temperature * logits.max()


def relu(reference):
    return replace(reference, features=reference.features.relu())


def test_examples():
    assert not doctest.testmod(functional).failed


@pytest.mark.parametrize("percentile", [0.0, 0.3, 10.0, 50.0, 90.0, 99.9, 100.0])
def test_percentile_is_numpys(percentile):
    numbers = torch.randn(5, 201, generator=torch.Generator().manual_seed(0)) * 10 ** torch.arange(-2.0, 3.0)[:, None]
    numbers[0, :50] = 0
    expected = np.percentile(numbers.numpy(), percentile, method="inverted_cdf")
    assert functional.percentile_of(lambda: iter(numbers), percentile) == expected


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_react_is_energy_of_clipped_features(temperature):
    reference = relu(with_head())
    images = queries(reference)
    score = ReAct(percentile=80.0, temperature=temperature).fit(reference)
    threshold = np.percentile(wide(reference.features), 80, method="inverted_cdf")
    assert score.threshold_ == threshold
    expected = energy(np.minimum(wide(images.features), threshold), reference, temperature)
    np.testing.assert_allclose(score(images), expected, rtol=1e-5)


@pytest.mark.parametrize(("name", "score"), [("s", ASH("s")), ("b", ASH("b")), ("p", ASH("p")), ("scale", SCALE())])
def test_shapings_are_their_definitions(name, score):
    reference = relu(with_head(width=20))
    images = queries(reference)
    images = replace(images, features=images.features.relu())

    def shaped(row):
        keep = len(row) - round(len(row) * score.percentile / 100)
        kept = np.argsort(-row, kind="stable")[:keep]
        factor = np.exp(row.sum() / row[kept].sum()) if name in ("s", "scale") else 1
        out = factor * row if name == "scale" else np.zeros_like(row)
        out[kept] = row.sum() / keep if name == "b" else factor * row[kept]
        return out

    expected = energy(np.stack([shaped(row) for row in wide(images.features)]), reference)
    np.testing.assert_allclose(score.fit(reference)(images), expected, rtol=1e-4)


@pytest.mark.parametrize("shaping", [functional.ash_p, functional.scale_activations])
def test_percentile_zero_prunes_nothing(shaping):
    features = torch.rand(4, 9, generator=torch.Generator().manual_seed(0))
    factor = torch.e if shaping is functional.scale_activations else 1
    torch.testing.assert_close(shaping(features, 0.0), factor * features)


def test_ash_b_keeps_the_sum():
    features = torch.rand(4, 9, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(functional.ash_b(features, 60.0).sum(dim=1), features.sum(dim=1))


@ALL
def test_signed_zero_and_empty_features_give_numbers(score):
    reference = with_head()
    score = score.fit(reference)
    signed = torch.cat([queries(reference).features, -torch.rand(8, 6), torch.zeros(1, 6)])
    signed[-2] = torch.tensor([-100.0, -1e-8, -90.0, -80.0, -70.0, -60.0])
    assert score(Embedded(signed, signed[:, :3])).isfinite().all()
    assert score(Embedded(torch.zeros(0, 6), torch.zeros(0, 3))).shape == (0,)


@ALL
def test_without_a_head_there_is_a_sentence(score):
    with pytest.raises(MmoodError, match="needs a linear head"):
        score.fit(with_prototypes())


def test_sentences():
    with pytest.raises(MmoodError, match="ASH is not fitted yet"):
        ASH()(queries(with_head()))
    with pytest.raises(MmoodError, match=r"SCALE\.percentile is 100.0"):
        SCALE(percentile=100.0)
    with pytest.raises(MmoodError, match=r"ASH\.variant is 'x'"):
        ASH("x")
    with pytest.raises(MmoodError, match=r"ReAct\.temperature is 0"):
        ReAct(temperature=0.0)
    reference = with_head()
    reference.features[4] = torch.inf
    with pytest.raises(MmoodError, match="key 1004"):
        ReAct().fit(reference)
    assert ASH("b").record() == {"variant": "b", "percentile": 65.0, "temperature": 1.0}
