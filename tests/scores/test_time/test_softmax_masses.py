"""Sums of masses against torch's own log-sum-exp in float64, also where float32 has no digits for the short way."""

import pytest
import torch

from mmood.scores.test_time.softmax_masses import SoftmaxMasses


def plain(logits, classes, groups):
    parts = [logits[:, :classes], *logits[:, classes:].chunk(groups, dim=1)]
    return torch.stack([part.double().logsumexp(-1) for part in parts], dim=-1).float()


@pytest.mark.parametrize(("classes", "words", "groups"), [(1, 1, 1), (3, 8, 4), (1, 6, 1), (20, 300, 5)])
@pytest.mark.parametrize("spread", [1.0, 30.0, 1000.0])
def test_sums_with_other_logits_for_some_texts(classes, words, groups, spread):
    generator = torch.Generator().manual_seed(0)
    logits = spread * torch.randn(9, classes + words, generator=generator)
    masses = SoftmaxMasses.of(logits, classes, groups)
    torch.testing.assert_close(masses.log_sums(), plain(logits, classes, groups), atol=1e-5, rtol=1e-6)
    for count in (0, 1, (classes + words) // 2, classes + words):
        texts = torch.randperm(classes + words, generator=generator)[:count].sort().values
        others = spread * torch.randn(count, 9, generator=generator)
        expected = plain(logits.index_copy(1, texts, others.T), classes, groups)
        torch.testing.assert_close(masses.log_sums_with(texts, others), expected, atol=1e-5, rtol=1e-6)


@pytest.mark.parametrize("moved", [-500.0, 0.0, 500.0])
def test_texts_that_lead_may_leave_and_others_come_far_from_them(moved):
    logits = torch.tensor([[0.0, 200.0, 0.0, 1.0], [0.0, 0.5, 0.0, 1.0]])
    masses = SoftmaxMasses.of(logits, classes=2)
    found = masses.log_sums_with(torch.tensor([1]), torch.tensor([[moved, 0.5]]))
    anew = logits.clone()
    anew[0, 1] = moved
    torch.testing.assert_close(found, plain(anew, 2, 1))


def test_no_images():
    masses = SoftmaxMasses.of(torch.empty(0, 5), classes=2, groups=3)
    assert masses.log_sums().shape == (0, 4)
    assert masses.log_sums_with(torch.tensor([0, 4]), torch.empty(2, 0)).shape == (0, 4)
