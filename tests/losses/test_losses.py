"""Identities of the losses in float64; oracles are loops, mpmath and Monte Carlo."""

import doctest
import importlib
import math

import mpmath
import pytest
import torch
from torch.nn.functional import cross_entropy, normalize

from mmood.errors import MmoodError
from mmood.losses import (
    Pairs,
    alignment,
    alignment_loss,
    alignment_regulariser,
    contrastive_loss,
    distinct_texts,
    log_partition,
    mean_cosine,
    modality_gap,
    uniformity,
)


def unit(rows, dim=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(rows, dim, dtype=torch.float64, generator=generator), dim=-1)


@pytest.fixture
def batch():
    return unit(8, seed=1), unit(8, seed=2), torch.tensor(14.3, dtype=torch.float64)


# Eight images of five classes; prototypes are repeated for the images of a class.
LABELS = torch.tensor([4, 1, 1, 0, 4, 4, 2, 6])


def gradients(loss, *leaves):
    return torch.autograd.grad(loss, leaves)


@pytest.mark.parametrize("module", ["contrastive", "geometry", "hypersphere"])
def test_examples(module):
    found = importlib.import_module(f"mmood.losses.{module}")
    assert doctest.testmod(found, extraglobs={"torch": torch, "math": math}).failed == 0


def test_contrastive_loss_is_the_mean_of_two_cross_entropies(batch):
    image, text, scale = batch
    logits, targets = scale * image @ text.T, torch.arange(8)
    expected = (cross_entropy(logits, targets) + cross_entropy(logits.T, targets)) / 2
    torch.testing.assert_close(contrastive_loss(image, text, scale), expected)


def test_regulariser_against_a_loop(batch):
    image, text, scale = batch
    total = 0.0
    for i in range(8):
        total -= math.log(sum(math.exp(scale * image[i] @ text[j]) for j in range(8))) / 16
        total -= math.log(sum(math.exp(scale * image[j] @ text[i]) for j in range(8))) / 16
    assert alignment_regulariser(image, text, scale).item() == pytest.approx(total, rel=1e-13)


@pytest.mark.parametrize("weight", [0.0, 1e-3, 0.3, 1.0])
def test_loss_is_attraction_and_scaled_repulsion(batch, weight):
    image, text, scale = batch
    logits = scale * image @ text.T
    repulsion = (logits.logsumexp(1).mean() + logits.logsumexp(0).mean()) / 2
    loss = alignment_loss(image, text, scale, weight)
    torch.testing.assert_close(loss, -logits.diagonal().mean() + (1 - weight) * repulsion)
    parts = contrastive_loss(image, text, scale) + weight * alignment_regulariser(image, text, scale)
    torch.testing.assert_close(loss, parts)


def test_at_weight_one_each_image_is_pulled_to_its_text_alone(batch):
    image, text, scale = batch
    image.requires_grad_()
    (gradient,) = gradients(alignment_loss(image, text, scale, 1.0), image)
    torch.testing.assert_close(gradient, -scale * text / 8)


@pytest.mark.parametrize("detach_scale", [False, True])
def test_gradient_of_the_scale(batch, detach_scale):
    image, text, scale = batch
    scale.requires_grad_()
    loss = alignment_loss(image, text, scale, 0.3, detach_scale=detach_scale)
    torch.testing.assert_close(loss, alignment_loss(image, text, scale, 0.3))
    contrastive = gradients(contrastive_loss(image, text, scale), scale)[0]
    regulariser = gradients(alignment_regulariser(image, text, scale), scale)[0]
    assert regulariser < 0, "R pushes the scale upwards"
    expected = contrastive if detach_scale else contrastive + 0.3 * regulariser
    torch.testing.assert_close(gradients(loss, scale)[0], expected)


def test_distinct_texts_stand_for_their_repeats(batch):
    image, scale = batch[0].requires_grad_(), batch[2].requires_grad_()
    prototypes = unit(7, seed=3).requires_grad_()
    repeated = alignment_loss(image, prototypes[LABELS], scale, 0.3)
    ids, pairs = distinct_texts(LABELS)
    distinct = alignment_loss(image, prototypes[ids], scale, 0.3, pairs)
    torch.testing.assert_close(distinct, repeated, rtol=1e-13, atol=0)
    leaves = image, prototypes, scale
    for mine, expected in zip(gradients(distinct, *leaves), gradients(repeated, *leaves), strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-11, atol=1e-13)


def test_all_classes_as_texts_are_a_softmax_over_classes(batch):
    image, _, scale = batch
    prototypes = unit(7, seed=3)
    logits = scale * image @ prototypes.T
    sides = cross_entropy(logits, LABELS), cross_entropy(logits.T[LABELS], torch.arange(8))
    torch.testing.assert_close(contrastive_loss(image, prototypes, scale, Pairs(LABELS)), sum(sides) / 2)


def test_all_pairs_of_a_class_as_positives(batch):
    image, text, scale = batch
    classes = Pairs(torch.arange(8), None, LABELS, LABELS)
    logits, total = scale * image @ text.T, 0.0
    for i in range(8):
        own = LABELS[i] == LABELS
        for side in (logits[i], logits[:, i]):
            total -= torch.log(side.softmax(0)[own].sum()).item() / 16
    assert contrastive_loss(image, text, scale, classes).item() == pytest.approx(total, rel=1e-12)


def test_multiple_positives_need_no_repeats_and_have_no_floor():
    ids, pairs = distinct_texts(LABELS)
    prototypes = torch.eye(7, dtype=torch.float64)
    image, scale = prototypes[LABELS], torch.tensor(100.0, dtype=torch.float64)
    distinct = contrastive_loss(image, prototypes[ids], scale, Pairs(pairs.text, pairs.count, LABELS, ids))
    repeated = contrastive_loss(image, image, scale, Pairs(torch.arange(8), None, LABELS, LABELS))
    torch.testing.assert_close(distinct, repeated)
    assert distinct.item() == pytest.approx(0.0, abs=1e-12)
    multiplicity = (LABELS[:, None] == LABELS).sum(dim=1)
    floor = contrastive_loss(image, prototypes[ids], scale, pairs)
    assert floor.item() == pytest.approx(multiplicity.double().log().mean().item(), rel=1e-12)


def test_a_class_without_images_gives_finite_gradients(batch):
    image, _, scale = batch
    prototypes = unit(7, seed=3).requires_grad_()
    loss = alignment_loss(image, prototypes, scale, 0.1, Pairs(LABELS, None, LABELS, torch.arange(7)))
    assert gradients(loss, prototypes)[0].isfinite().all()


def test_unequal_numbers_need_pairs(batch):
    with pytest.raises(MmoodError, match="8 images and 5 texts"):
        contrastive_loss(batch[0], batch[1][:5], batch[2])


@pytest.mark.parametrize(("kappa", "dim", "expected"), [(100, 512, 0.18840), (100, 768, 0.12808), (14.3, 512, 0.02791)])
def test_mean_cosine_of_the_paper_s_settings(kappa, dim, expected):
    assert mean_cosine(torch.tensor(float(kappa)), dim).item() == pytest.approx(expected, abs=5e-6)


@pytest.mark.parametrize("dim", [2, 3, 24, 512, 1024])
@pytest.mark.parametrize("kappa", [1e-3, 1.0, 14.3, 100.0, 2000.0])
def test_partition_and_derivative_against_mpmath(kappa, dim):
    order = mpmath.mpf(dim) / 2 - 1
    with mpmath.workdps(40):
        bessel = mpmath.besseli(order, kappa), mpmath.besseli(order + 1, kappa)
        expected = mpmath.log(bessel[0]) - order * mpmath.log(kappa) + mpmath.mpf(dim) / 2 * mpmath.log(2 * mpmath.pi)
    point = torch.tensor(kappa, dtype=torch.float64, requires_grad=True)
    found = log_partition(point, dim)
    assert found.item() == pytest.approx(float(expected), rel=1e-12, abs=1e-11)
    ratio = mean_cosine(point.detach(), dim).item()
    assert ratio == pytest.approx(float(bessel[1] / bessel[0]), rel=1e-12)
    assert gradients(found, point)[0].item() == pytest.approx(ratio, rel=1e-8)


def test_mean_cosine_is_the_finite_difference_of_the_partition():
    ends = log_partition(torch.tensor([99.999, 100.001], dtype=torch.float64), 512)
    assert (ends[1] - ends[0]).item() / 0.002 == pytest.approx(mean_cosine(torch.tensor(100.0), 512).item(), rel=1e-7)


def test_partition_at_zero_is_the_area():
    areas = log_partition(torch.zeros(2), 2)
    torch.testing.assert_close(areas, torch.full((2,), math.log(2 * math.pi), dtype=torch.float64))
    assert mean_cosine(torch.zeros(()), 5).item() == 0


def test_partition_by_monte_carlo_is_the_same_around_any_text():
    points, texts, kappa = unit(200_000, dim=5), unit(3, dim=5, seed=9), 2.0
    exact = log_partition(torch.tensor(kappa), 5) - log_partition(torch.tensor(0.0), 5)
    estimates = (kappa * points @ texts.T).exp().mean(dim=0).log()
    torch.testing.assert_close(estimates, exact.expand(3), rtol=0, atol=0.02)


def test_regulariser_is_a_negative_log_likelihood_up_to_a_constant(batch):
    image, text, scale = batch
    # Density of the mixture at each image: mean over texts of exp(κ u·t) / Z(κ).
    density = (scale * image @ text.T).exp().mean(dim=1) / log_partition(scale, 6).exp()
    images_only = -(scale * image @ text.T).logsumexp(dim=1).mean()
    torch.testing.assert_close(-density.log().mean(), images_only + math.log(8) + log_partition(scale, 6))


def test_geometry_against_loops():
    image, text = unit(20, seed=1), unit(20, seed=2)
    squared = [(image[i] - image[j]).square().sum().item() for i in range(20) for j in range(i)]
    expected = math.log(sum(math.exp(-2 * value) for value in squared) / len(squared))
    assert uniformity(image, rows=7).item() == pytest.approx(expected, rel=1e-12)
    assert alignment(image, text).item() == pytest.approx(2 - 2 * (image * text).sum(1).mean().item(), rel=1e-12)
    assert modality_gap(image, -image).item() == pytest.approx(2 * image.mean(0).norm().item(), rel=1e-12)
    with pytest.raises(MmoodError, match="there are 1 embeddings"):
        uniformity(image[:1])
