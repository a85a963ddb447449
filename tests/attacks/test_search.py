"""Searches in a ball: closed forms of linear objectives, and what holds for any objective."""

from fractions import Fraction

import pytest
import torch

from mmood.attacks import draws
from mmood.attacks.budget import LEVELS, NORMS, Budget, levels_of
from mmood.attacks.search import apgd, best_of, checkpoint_steps, clean, fgsm, pgd

EPS = Fraction(4, 255)
SIZE = (3, 6, 5)


def pictures(count=5, seed=0):
    """Images of 8 bits, in float64."""
    random = torch.Generator().manual_seed(seed)
    return torch.randint(LEVELS + 1, (count, *SIZE), generator=random).double() / LEVELS


def starts(images, budget, restart=0):
    return budget.start(images, draws.noise(range(len(images)), 7, restart, SIZE, budget.norm).double())


def linear(seed=1):
    """w, and the objective w . x of each image."""
    weight = torch.randn(SIZE, generator=torch.Generator().manual_seed(seed)).double()
    return weight, lambda images: (images * weight).flatten(1).sum(dim=1)


def network(seed=2):
    """A smooth objective with many ups and downs."""
    random = torch.Generator().manual_seed(seed)
    width = SIZE[0] * SIZE[1] * SIZE[2]
    first = 0.3 * torch.randn(width, 24, generator=random).double()
    second = torch.randn(24, generator=random).double()
    return lambda images: torch.sin(images.flatten(1) @ first) @ second


def searched(method, objective, images, budget, steps):
    start = starts(images, budget)
    return (pgd if method == "pgd" else apgd)(objective, images, start, budget, steps)


@pytest.mark.parametrize("method", ["pgd", "apgd"])
def test_a_linear_objective_reaches_the_corner(method):
    images, budget = pictures(), Budget("linf", EPS)
    weight, objective = linear()
    found = searched(method, objective, images, budget, steps=30)
    corner = (images + float(EPS) * weight.sign()).clamp(0, 1)
    torch.testing.assert_close(found.images, corner)
    torch.testing.assert_close(found.values, objective(corner))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("method", ["fgsm", "pgd", "apgd"])
def test_the_gain_of_a_linear_objective_is_eps_times_the_dual_norm(norm, method):
    images, budget = 0.2 + 0.6 * pictures(), Budget(norm, EPS)  # no clamping inside the ball
    weight, objective = linear()
    if method == "fgsm":
        found = fgsm(objective, images, budget)
    else:
        found = searched(method, objective, images, budget, steps=50)
    gain = float(EPS) * (weight.abs().sum() if norm == "linf" else weight.norm())
    # A constant step comes near the closest point of a sphere, no more.
    accuracy = 0.02 if (method, norm) == ("pgd", "l2") else 1e-6
    torch.testing.assert_close(found.values - objective(images), gain.expand(len(images)), rtol=accuracy, atol=0)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("method", ["pgd", "apgd"])
def test_the_best_value_never_falls_and_belongs_to_the_image(norm, method):
    images, budget, objective = pictures(), Budget(norm, 8 * EPS), network()
    found = searched(method, objective, images, budget, steps=25)
    assert found.history.shape == (26, len(images))
    assert (found.history.diff(dim=0) >= 0).all()
    torch.testing.assert_close(found.values, objective(found.images))
    assert torch.equal(found.values, found.history[-1])
    assert (found.values >= objective(starts(images, budget))).all()
    torch.testing.assert_close(budget.project(found.images, images), found.images)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("steps", [20, 100])
def test_apgd_is_no_worse_than_pgd_at_equal_steps(norm, steps):
    images, budget = pictures(count=16), Budget(norm, 8 * EPS if norm == "linf" else 40 * EPS)
    for seed in range(4):
        plain, auto = (searched(method, network(seed), images, budget, steps) for method in ("pgd", "apgd"))
        assert auto.values.mean() > plain.values.mean()
        assert (auto.values >= plain.values - 1e-3 * plain.values.abs()).all()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("method", ["pgd", "apgd"])
def test_a_ball_of_radius_0_is_the_image(norm, method):
    images, budget = pictures(), Budget(norm, Fraction(0))
    found = searched(method, network(), images, budget, steps=5)
    assert torch.equal(found.images, images)
    assert torch.equal(fgsm(network(), images, budget).images, images)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("method", ["pgd", "apgd"])
def test_an_image_is_attacked_as_if_it_were_alone(norm, method):
    images, budget, objective = pictures(), Budget(norm, 8 * EPS), network()
    start = starts(images, budget)
    search = pgd if method == "pgd" else apgd
    together = search(objective, images, start, budget, 20)
    for number in range(len(images)):
        alone = slice(number, number + 1)
        torch.testing.assert_close(
            search(objective, images[alone], start[alone], budget, 20).images, together.images[alone]
        )


def test_restarts_keep_the_best_of_each_image():
    images, budget, objective = pictures(), Budget("linf", 8 * EPS), network()
    searches = [apgd(objective, images, starts(images, budget, restart), budget, 10) for restart in range(3)]
    found = best_of([clean(objective, images), *searches])
    expected = torch.stack([objective(images), *(search.values for search in searches)]).amax(dim=0)
    torch.testing.assert_close(found.values, expected)
    torch.testing.assert_close(objective(found.images), expected)


def test_checkpoints_are_those_of_the_paper():
    """p_{j+1} = p_j + max(p_j - p_{j-1} - 0.03, 0.06), p_1 = 0.22 (arXiv 2003.01690), for 100 steps."""
    assert list(checkpoint_steps(100)) == [22, 41, 57, 70, 80, 87, 93, 99]
    assert list(checkpoint_steps(1)) == [1]


def test_noise_belongs_to_key_and_restart():
    one, two = draws.noise([3, 4], 0, 0, SIZE, "linf"), draws.noise([4, 3], 0, 0, SIZE, "linf")
    assert torch.equal(one, two.flip(0))
    assert not torch.equal(one, draws.noise([3, 4], 0, 1, SIZE, "linf"))
    assert not torch.equal(one, draws.noise([3, 4], 1, 0, SIZE, "linf"))
    assert one.abs().max() <= 1
    assert draws.targets(range(500), 0, 7).unique().tolist() == list(range(7))


@pytest.mark.parametrize("norm", NORMS)
def test_random_starts_lie_on_the_ball_or_at_the_edge_of_the_values(norm):
    images, budget = 0.2 + 0.6 * pictures(), Budget(norm, EPS)
    change = (starts(images, budget) - images).flatten(1)
    size = change.abs().amax(dim=1) if norm == "linf" else change.norm(dim=1)
    torch.testing.assert_close(size, torch.full_like(size, float(EPS)))


@pytest.mark.parametrize(("norm", "eps"), [("linf", EPS), ("linf", Fraction(7, 510)), ("l2", EPS), ("l2", 20 * EPS)])
def test_a_budget_holds_in_8_bits(norm, eps):
    images, budget = pictures(), Budget(norm, eps)
    random = torch.Generator().manual_seed(5)
    moved = budget.project(images + 0.1 * torch.randn(images.shape, generator=random), images)
    levels = budget.quantised(moved, levels_of(images))
    assert budget.holds(levels, levels_of(images)).all()
    assert levels.min() >= 0
    assert levels.max() <= LEVELS
    change = (levels - levels_of(images)).double().flatten(1)
    size = change.abs().amax(dim=1) if norm == "linf" else change.norm(dim=1)
    assert (size / LEVELS <= float(eps)).all()
    # Nothing is given away: each value is at most a level from where it should be, and the ball is used.
    assert ((levels / LEVELS - moved).abs() <= 1.001 / LEVELS).all()
    if norm == "l2" and eps > EPS:
        assert (size / LEVELS >= 0.98 * (moved - images).flatten(1).norm(dim=1)).all()


@pytest.mark.parametrize("norm", NORMS)
def test_a_budget_that_does_not_hold_is_seen(norm):
    images, budget = levels_of(pictures()).clamp(20, 200), Budget(norm, EPS)
    assert budget.holds(images, images).all()
    most = 4 if norm == "linf" else 2
    moved = images.clone()
    moved[:, 0, 0, :most] += 2 if norm == "l2" else 4
    assert budget.holds(moved, images).all() == (norm == "linf" or most * 4 <= 16)
    moved[0, 0, 0, 0] += 3
    assert budget.holds(moved, images).tolist() == [False, True, True, True, True]
