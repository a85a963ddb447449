"""Every static score on a GPU: the numbers of the CPU."""

import pytest
import torch
from bank_fakes import FakeReference
from test_portable import STATIC, fitted, images

from mmood.scores.base import Embedded
from mmood.scores.neighbours import KNN

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("name", STATIC)
def test_a_score_is_the_same_as_on_the_cpu(name):
    batch, score = images(), fitted(name)
    expected = score(batch)
    found = score.to("cuda")(batch.to(torch.device("cuda")))
    assert found.device.type == "cuda"
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("k", [1, 3])
def test_a_bank_that_does_not_fit_stays_in_host_memory(k, monkeypatch):
    rows = torch.randn(70_000, 16, generator=torch.Generator().manual_seed(0)).half()
    reference = FakeReference(rows, torch.zeros(len(rows), dtype=torch.int64), ["one"])
    features = torch.randn(30, 16, generator=torch.Generator().manual_seed(1)).cuda()
    batch = Embedded(features, features[:, :1])
    expected = KNN(k).fit(reference)(batch)
    monkeypatch.setattr("torch.cuda.get_per_process_memory_fraction", lambda device: 0.0)
    score = KNN(k).fit(reference)
    assert torch.equal(score(batch), expected)
    assert score.neighbours_.rows.device.type == "cpu"
