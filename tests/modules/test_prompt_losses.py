"""The losses of the prompt learners against loops by hand and the identities of their papers."""

import math

import pytest
import torch
from torch.nn.functional import cross_entropy, normalize

from mmood.errors import MmoodError
from mmood.modules.optimisation import ConstantWarmupCosine
from mmood.modules.prompt_learning import SCT, CoOp, LoCoOp, NegPrompt
from mmood.modules.prompt_learning.id_like import diversity, id_mass
from mmood.modules.prompt_learning.local_prompt import mean_cosine, negative_crops, positive_crops
from mmood.modules.prompt_learning.locoop import chosen_top_k, entropy, id_irrelevant
from mmood.modules.prompt_learning.method import Views
from mmood.modules.prompt_learning.neg_prompt import apart, rejection
from mmood.modules.prompt_learning.pnps import distance
from mmood.modules.prompt_learning.sct import sct_loss
from mmood.modules.prompt_learning.supreme import consistency_loss

SCALE = torch.tensor(9.0)


def unit(*shape, seed=0):
    return normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64), dim=-1)


def views(batch=2, patches=3, dim=5, classes=4, crops=1) -> Views:
    return Views(
        unit(batch, crops, dim, seed=1), unit(batch, crops, patches, dim, seed=2), torch.arange(batch) % classes
    )


def locoop(top_k, weight=0.25):
    method = LoCoOp(weight=weight)
    method._top_k = top_k
    return method


def test_locoop_by_hand():
    texts, given = unit(4, 5), views()
    total, count = 0.0, 0
    for image in range(2):
        for region in range(3):
            q = (SCALE * given.patches[image, 0, region] @ texts.T).softmax(0)
            if given.label[image] not in q.topk(2).indices:
                total += float(-(q * (q + 1e-5).log()).sum())
                count += 1
    assert 0 < count < 6
    images = cross_entropy(SCALE * given.embedding[:, 0] @ texts.T, given.label)
    found = locoop(2).loss(given, {"positive": texts}, SCALE, 0)
    torch.testing.assert_close(found, images - 0.25 * total / count)


def test_locoop_is_coop_without_regions_or_weight():
    texts, given = {"positive": unit(4, 5)}, views()
    coop = CoOp().loss(given, texts, SCALE, 0)
    assert torch.equal(locoop(4).loss(given, texts, SCALE, 0), coop)
    assert torch.equal(locoop(2, weight=0.0).loss(given, texts, SCALE, 0), coop)


def test_locoop_with_equal_texts_is_log_c():
    given, same = views(), unit(1, 5).expand(4, 5)
    assert id_irrelevant(SCALE * given.local()[:, 0] @ same.T, given.label, 0).all()
    regions = locoop(0, weight=1.0).loss(given, {"positive": same}, SCALE, 0) - math.log(4)
    torch.testing.assert_close(float(regions), -math.log(4), rtol=1e-4, atol=0)


def test_top_k_counts_the_larger_logits():
    logits = torch.randn(6, 7, 5, generator=torch.Generator().manual_seed(4))
    label = torch.arange(6) % 5
    for k in range(6):
        top = logits.topk(k, dim=-1).indices
        expected = ~(top == label.view(-1, 1, 1)).any(dim=-1)
        assert torch.equal(id_irrelevant(logits, label, k), expected)


def test_top_k_follows_the_classes():
    assert chosen_top_k("LoCoOp", None, 1000) == 200
    assert chosen_top_k("LoCoOp", None, 3) == 1
    with pytest.raises(MmoodError, match=r"LoCoOp.top_k is 200, but there are 100 classes"):
        chosen_top_k("LoCoOp", 200, 100)


def test_sct_of_sure_and_unsure_images():
    label, local = torch.tensor([0, 1]), torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(1))
    selected = id_irrelevant(local, label, 2)
    regions = float(-(entropy(local) * selected).sum() / selected.sum())
    sure = torch.full((2, 4), -50.0).scatter(1, label.unsqueeze(1), 50.0)
    assert float(sct_loss(sure, local, label, 2, 1.0)) == pytest.approx(regions, rel=1e-5)
    unsure = torch.zeros(2, 4).scatter(1, label.unsqueeze(1), -30.0)
    images = float(cross_entropy(unsure, label))
    assert float(sct_loss(unsure, local, label, 2, 1.0)) == pytest.approx(images, rel=1e-5)


def test_sct_without_gradient_of_its_weights_is_weighted_locoop():
    label = torch.tensor([0, 1])
    logits = torch.randn(2, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64, requires_grad=True)
    local = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (found,) = torch.autograd.grad(sct_loss(logits, local, label, 2, 0.25, detach=True), logits)
    p = logits.softmax(1).gather(1, label.unsqueeze(1)).squeeze(1).detach()
    weighted = ((1 + 1e-7 - p) * cross_entropy(logits, label, reduction="none")).mean()
    torch.testing.assert_close(found, torch.autograd.grad(weighted, logits)[0])
    (whole,) = torch.autograd.grad(sct_loss(logits, local, label, 2, 0.25), logits)
    assert not torch.allclose(found, whole)
    assert SCT().detach is False


def test_local_prompt_by_loops():
    batch, patches, classes, negatives, k = 2, 5, 3, 2, 2
    a = 3 * unit(batch, patches, classes, seed=1)
    b = 3 * unit(batch, patches, negatives, seed=2)
    label = torch.tensor([2, 0])
    positive, negative = [], []
    for image in range(batch):
        masses = [sum(sorted(a[image, :, c].exp().tolist())[-k:]) for c in range(classes)]
        others = [sum(sorted(b[image, :, n].exp().tolist())[-k:]) for n in range(negatives)]
        own = int(label[image])
        positive.append(-math.log(masses[own] / (sum(masses) + sum(others))))
        regions = sorted(range(patches), key=lambda r: float(a[image, r, own]), reverse=True)[:k]
        mass = sum(float(b[image, r, n].exp()) for r in regions for n in range(negatives))
        negative.append(-math.log(mass / (mass + sum(masses))))
    assert float(positive_crops(a, b, label, k)) == pytest.approx(sum(positive) / batch)
    assert float(negative_crops(a, b, label, k)) == pytest.approx(sum(negative) / batch)


def test_local_prompt_of_all_regions_one_region_and_no_negatives():
    a, b, label = unit(2, 5, 3, seed=1), unit(2, 5, 2, seed=2), torch.tensor([2, 0])
    sums = torch.cat([a.exp().sum(1), b.exp().sum(1)], dim=1)
    own = sums.gather(1, label.unsqueeze(1)).squeeze(1)
    torch.testing.assert_close(positive_crops(a, b, label, 5), -(own / sums.sum(1)).log().mean())
    one = positive_crops(a[:, :1], b[:, :1], label, 10)
    torch.testing.assert_close(one, cross_entropy(torch.cat([a[:, 0], b[:, 0]], dim=1), label))
    alone = positive_crops(a[:, :1], b[:, :1, :0], label, 1)
    torch.testing.assert_close(alone, cross_entropy(a[:, 0], label))
    texts = unit(4, 6)
    pairs = sum(float(texts[n] @ texts[m]) for n in range(4) for m in range(4))
    assert float(mean_cosine(texts)) == pytest.approx(pairs / 12)


def test_id_like_terms():
    logits = 4 * unit(6, 7)
    p = logits.softmax(1)[:, :3].sum(1)
    torch.testing.assert_close(id_mass(logits, 3), p.log().mean())
    torch.testing.assert_close(id_mass(logits, 3, bounded=True), -(1 - p).log().mean())
    texts = unit(4, 3)
    pairs = [max(0.0, float(texts[n] @ texts[m])) for n in range(4) for m in range(4) if n != m]
    assert float(diversity(texts)) == pytest.approx(sum(pairs) / 12)
    assert float(diversity(texts[:1])) == 0


def test_crops_are_ranked_by_their_own_text():
    given = views(batch=3, crops=4, classes=3)
    prototypes = unit(3, 5, seed=7)
    ranked = given.ranked(prototypes)
    for image in range(3):
        cosines = given.embedding[image] @ prototypes[image]
        order = cosines.argsort(descending=True)
        assert torch.equal(ranked.embedding[image], given.embedding[image][order])
        assert torch.equal(ranked.patches[image], given.patches[image][order])


def test_neg_prompt_terms_and_its_released_form():
    given, positive, negative = views(), unit(4, 5, seed=3), unit(8, 5, seed=4)
    v = given.embedding[:, 0]
    inside, outside = (SCALE * v @ positive.T).exp().sum(1), (SCALE * v @ negative.T).exp().sum(1)
    torch.testing.assert_close(rejection(v, positive, negative, SCALE), -(inside / (inside + outside)).log().mean())
    by_class = negative.reshape(4, 2, 5)
    near = torch.stack([by_class[c, k] @ positive[c] for c in range(4) for k in range(2)]).mean()
    hinge = torch.stack([(by_class[c, 0] @ by_class[c, 1]).clamp_min(0) for c in range(4)]).mean()
    torch.testing.assert_close(apart(by_class), hinge)
    texts = {"positive": positive, "negative": negative}
    nis = rejection(v, positive, negative, SCALE)
    torch.testing.assert_close(NegPrompt().loss(given, texts, SCALE, 0), nis + 0.1 * (1 - near) + 0.05 * hinge)
    released = NegPrompt(reference_behaviour=True)
    torch.testing.assert_close(released.loss(given, texts, SCALE, 0), nis + 0.1 * near)


def test_maps_that_are_the_identity_have_perfect_cycles():
    images, texts, label, one = unit(6, 5), unit(4, 5, seed=2), torch.arange(6) % 4, torch.eye(5, dtype=torch.float64)
    twice = 2 * cross_entropy(images @ texts.T / 0.1, label)
    torch.testing.assert_close(consistency_loss(images, texts, label, one, one, 10.0), twice)
    turned = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))[0]
    inter = cross_entropy(images @ (texts @ turned).T / 0.1, label) + cross_entropy(
        images @ turned.T @ texts.T / 0.1, label
    )
    # Orthogonal maps that undo each other: no cycle is lost.
    torch.testing.assert_close(consistency_loss(images, texts, label, turned, turned.T, 10.0), inter)


def test_the_distance_of_texts():
    assert float(distance(unit(4, 5), unit(4, 5))) == pytest.approx(0)
    assert float(distance(unit(4, 5), -unit(4, 5))) == pytest.approx(2)


def test_the_schedule_is_coops():
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.002)
    schedule, rates, epochs = ConstantWarmupCosine(optimizer, 50), [], 50
    for _ in range(epochs):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates[0] == 1e-5
    assert rates[1] == 0.002
    # The recursion of torch's CosineAnnealingLR, which starts from the base rate after the warm-up.
    rate = 0.002
    for epoch in range(2, epochs):
        rate *= (1 + math.cos(math.pi * epoch / epochs)) / (1 + math.cos(math.pi * (epoch - 1) / epochs))
        assert rates[epoch] == pytest.approx(rate)
