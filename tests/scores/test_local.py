"""GL-MCM and L-MCM against loops over patches and classes in float64, and the identities of the paper."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import normalize
from torch.utils._python_dispatch import TorchDispatchMode

from mmood.errors import MmoodError
from mmood.scores import GLMCM, LMCM, MCM, Embedded, functional_local
from mmood.scores.functional_local import patch_log_odds


def unit(*shape, seed):
    return normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


PROTOTYPES = unit(5, 8, seed=1)
REFERENCE = SimpleNamespace(prototypes=PROTOTYPES)


def images(count=4, patches=7, seed=2):
    embedding, local = unit(count, 8, seed=seed), unit(count, patches, 8, seed=seed + 1)
    return Embedded(torch.zeros(count, 3), embedding @ PROTOTYPES.T, embedding, local)


def largest(vector, temperature):
    """Return max_c softmax_c(cos / T) by the textbook, in Python's own numbers."""
    exponents = [
        math.exp(sum(float(a) * float(b) for a, b in zip(vector, text, strict=True)) / temperature)
        for text in PROTOTYPES
    ]
    return max(exponents) / sum(exponents)


@pytest.mark.parametrize(("temperature", "weight"), [(1.0, 1.0), (1.0, 0.5), (0.1, 2.0)])
def test_loops_give_the_same(temperature, weight):
    batch = images()
    glmcm = GLMCM(temperature, weight).fit(REFERENCE)(batch)
    lmcm = LMCM(temperature).fit(REFERENCE)(batch)
    for row in range(4):
        whole = largest(batch.embedding[row], temperature)
        local = max(largest(patch, temperature) for patch in batch.patches[row])
        assert torch.sigmoid(lmcm[row].double()).item() == pytest.approx(local, rel=2e-6)
        found = torch.sigmoid(glmcm[row].double()).item() * (1 + weight)
        assert found == pytest.approx(whole + weight * local, rel=2e-6)


@pytest.mark.parametrize("score", [LMCM(0.5), GLMCM(0.5, 0.3)])
def test_the_map_has_the_probability_of_each_patch(score):
    batch = images()
    values = score.fit(REFERENCE).patch_scores(batch)
    expected = [[largest(patch, 0.5) for patch in row] for row in batch.patches]
    assert torch.allclose(values.sigmoid(), torch.tensor(expected), rtol=1e-5)


def test_without_local_weight_it_is_mcm():
    batch = images()
    assert torch.equal(GLMCM(0.2, 0.0).fit(REFERENCE)(batch), MCM(0.2)(batch))


def test_patches_like_the_image_add_nothing():
    batch = images()
    same = Embedded(batch.features, batch.logits, batch.embedding, batch.embedding[:, None].expand(-1, 7, -1))
    for score in (LMCM(), GLMCM(1.0, 0.5)):
        assert torch.allclose(score.fit(REFERENCE)(same), MCM()(batch), atol=1e-6)


def test_another_patch_never_lowers_the_score():
    batch = images()
    fewer = Embedded(batch.features, batch.logits, batch.embedding, batch.patches[:, :-1])
    for score in (LMCM(), GLMCM()):
        assert (score.fit(REFERENCE)(batch) >= score(fewer)).all()


def test_the_order_of_the_classes_does_not_matter():
    batch, turned = images(), SimpleNamespace(prototypes=PROTOTYPES.flip(0))
    assert torch.allclose(GLMCM().fit(turned)(batch), GLMCM().fit(REFERENCE)(batch), atol=1e-6)


def test_cold_softmax_does_not_tie():
    """At T = 0.001 every p_r is 1 in float32; the log-odds still differ, and grow as T falls."""
    found = patch_log_odds(images().patches, PROTOTYPES, 0.001)
    assert (found.sigmoid().float() == 1).float().mean() > 0.9
    assert len(found.unique()) == found.numel()


def test_chunks_change_nothing(monkeypatch):
    batch = images()
    whole = patch_log_odds(batch.patches, PROTOTYPES)
    monkeypatch.setattr(functional_local, "CELLS", 3 * len(PROTOTYPES))
    assert torch.allclose(patch_log_odds(batch.patches, PROTOTYPES), whole, rtol=1e-6)


class Largest(TorchDispatchMode):
    """Notes how many numbers the largest tensor has that is made."""

    numbers = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for one in made if isinstance(made, tuple | list) else (made,):
            if isinstance(one, torch.Tensor) and one.untyped_storage().data_ptr() not in self.given:
                self.numbers = max(self.numbers, one.numel())
        return made

    def __init__(self, given):
        super().__init__()
        self.given = {one.untyped_storage().data_ptr() for one in given}


def test_the_similarities_are_never_in_memory_as_a_whole(monkeypatch):
    monkeypatch.setattr(functional_local, "CELLS", 400)
    batch, prototypes = images(count=20, patches=30), unit(40, 8, seed=7)
    with torch.inference_mode(), Largest((batch.patches, prototypes)) as found:
        patch_log_odds(batch.patches, prototypes)
    assert found.numbers == 20 * 30, "one number for each patch, and chunks of 400 similarities"


def test_the_gradient_is_that_of_the_textbook():
    patches = images().patches.double().requires_grad_()
    patch_log_odds(patches, PROTOTYPES.double(), 0.3).sum().backward()
    found, patches.grad = patches.grad, None
    probability = (patches @ PROTOTYPES.double().T / 0.3).softmax(dim=-1).amax(dim=-1)
    (probability.log() - (1 - probability).log()).sum().backward()
    assert torch.allclose(found, patches.grad, atol=1e-9)


def test_images_without_patches_are_refused():
    batch = images()
    with pytest.raises(MmoodError, match="reads patches, but the images were encoded without them"):
        LMCM().fit(REFERENCE)(Embedded(batch.features, batch.logits, batch.embedding))


def test_the_weight_is_recorded():
    assert GLMCM(local_weight=0.5).record()["local_weight"] == 0.5
