"""ALPA against its definition pair by pair, and the identities of the paper."""

import pytest
import torch
from torch.nn.functional import cosine_similarity, cross_entropy, normalize

from mmood.losses import aligned_similarities, alpa, alpa_loss, supcon_loss, supervised_contrastive_loss


def maps(images=6, positions=5, width=4, dtype=torch.float64):
    generator = torch.Generator().manual_seed(images * positions)
    return [torch.randn(images, positions, width, generator=generator, dtype=dtype) for _ in range(3)]


def similarity(a, b, queries, keys, values):
    """Return sim(a, b) as the paper writes it."""
    total = 0.0
    for one, other in ((a, b), (b, a)):
        attention = torch.softmax(queries[one] @ keys[other].T / queries.shape[2] ** 0.5, dim=1)
        total += cosine_similarity(values[one], attention @ values[other], dim=1).mean()
    return total


def pairwise(*parts):
    count = len(parts[0])
    return torch.stack([torch.stack([similarity(a, b, *parts) for b in range(count)]) for a in range(count)])


@pytest.mark.parametrize("cells", [1, 2 * 6 * 25, alpa.CELLS])
def test_similarities_and_their_gradients_are_those_of_the_definition(cells, monkeypatch):
    monkeypatch.setattr(alpa, "CELLS", cells)
    weight = torch.randn(6, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    found, expected = [[part.requires_grad_() for part in maps()] for _ in range(2)]
    similarities = aligned_similarities(*found)
    torch.testing.assert_close(similarities, pairwise(*expected))
    (weight * similarities).sum().backward()
    (weight * pairwise(*expected)).sum().backward()
    for part, other in zip(found, expected, strict=True):
        torch.testing.assert_close(part.grad, other.grad)


def test_single_precision_is_enough():
    parts = maps(8, 16, 80, torch.float32)
    exact = aligned_similarities(*(part.double() for part in parts))
    assert (aligned_similarities(*parts) - exact).abs().max() < 1e-6


def test_similarity_is_symmetric_bounded_and_blind_to_the_order_of_positions():
    parts = maps()
    similarities = aligned_similarities(*parts)
    assert torch.equal(similarities, similarities.T)
    assert similarities.abs().max() <= 2
    order = torch.randperm(5, generator=torch.Generator().manual_seed(1))
    moved = [torch.cat([part[:2], part[2:3, order], part[3:]]) for part in parts]
    torch.testing.assert_close(aligned_similarities(*moved), similarities)


def test_an_image_is_aligned_with_itself_where_attention_is_one_hot():
    sharp = 100 * torch.eye(5).expand(1, 5, 5)
    torch.testing.assert_close(
        aligned_similarities(sharp, sharp, maps(1, 5, 3, torch.float32)[2]), torch.tensor([[2.0]])
    )


def test_constant_attention_compares_every_position_with_the_mean():
    values = maps()[2]
    found = aligned_similarities(torch.zeros_like(values), torch.zeros_like(values), values)
    mean = values.mean(dim=1)
    towards = torch.stack([cosine_similarity(values[a][:, None], mean[None], dim=2).mean(dim=0) for a in range(6)])
    torch.testing.assert_close(found, towards + towards.T)


def test_with_two_views_of_different_images_the_loss_is_nt_xent():
    parts = maps(6, 4, 3)
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    logits = 10 * aligned_similarities(*parts)
    others = logits.masked_fill(torch.eye(6, dtype=torch.bool), -torch.inf)
    torch.testing.assert_close(alpa_loss(*parts, labels), cross_entropy(others, torch.tensor([1, 0, 3, 2, 5, 4])))


def test_supervised_contrastive_loss_is_its_sum_over_anchors_and_positives():
    logits = torch.randn(5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels = torch.tensor([2, 0, 2, 1, 2])  # two images are alone in their class
    terms = []
    for i in (0, 2, 4):
        evidence = sum(logits[i, k].exp() for k in range(5) if k != i)
        terms.append(-sum((logits[i, j].exp() / evidence).log() for j in (0, 2, 4) if j != i) / 2)
    torch.testing.assert_close(supervised_contrastive_loss(logits, labels), sum(terms) / 3)


def test_a_batch_without_positives_has_no_loss_and_no_gradient():
    logits = torch.randn(3, 3, requires_grad=True)
    loss = supervised_contrastive_loss(logits, torch.arange(3))
    loss.backward()
    assert loss == 0
    assert logits.grad.abs().max() == 0


def test_supcon_divides_cosines_by_the_temperature():
    embedding, labels = normalize(maps()[0][:, 0], dim=1), torch.tensor([0, 0, 1, 1, 0, 1])
    expected = supervised_contrastive_loss(embedding @ embedding.T / 0.5, labels)
    torch.testing.assert_close(supcon_loss(embedding, labels, 0.5), expected)
