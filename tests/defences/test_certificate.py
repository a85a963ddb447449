"""The bounds of median smoothing: exact binomial probabilities, the closed form of a linear score, 1,000 perturbations."""

from fractions import Fraction
from math import comb

import pytest
import torch
from scipy.stats import binom, norm

from mmood.defences import Smoother, SmoothingSettings, certified_order, fewest_copies, ordered_bounds
from mmood.errors import MmoodError

NOISE = 0.5


@pytest.mark.parametrize("copies", [1, 7, 100, 1000])
@pytest.mark.parametrize("radius", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("alpha", [0.001, 0.05])
def test_the_orders_are_the_tightest_with_exact_binomial_probabilities(copies, radius, alpha):
    order = certified_order(copies, NOISE, radius, alpha)
    lower, upper = norm.cdf(-radius / NOISE), norm.cdf(radius / NOISE)

    # Too high a lower bound: fewer than `low` copies are below the lower percentile.
    assert order.low == 0 or binom.cdf(order.low - 1, copies, lower) <= alpha
    assert binom.cdf(order.low, copies, lower) > alpha, "the next copy would do as well"
    # Too low an upper bound: at least `high` copies are below the upper percentile.
    assert order.high == copies + 1 or binom.sf(order.high - 1, copies, upper) <= alpha * (1 + 1e-9)
    assert binom.sf(order.high - 2, copies, upper) > alpha * (1 - 1e-9), "the copy before would do as well"


def test_the_probabilities_are_those_of_fractions():
    """At radius 0 both percentiles are the median, so that the probabilities are sums of binomial coefficients."""
    copies, alpha = 61, Fraction(1, 100)
    order = certified_order(copies, NOISE, 0.0, float(alpha))

    def below(count: int) -> Fraction:
        return sum((Fraction(comb(copies, k), 2**copies) for k in range(count)), Fraction())

    assert below(order.low) <= alpha < below(order.low + 1)
    assert order.high == copies + 1 - order.low


def test_the_fewest_copies_are_what_makes_a_bound_finite():
    fewest = fewest_copies(NOISE, 0.6, 0.01)

    assert certified_order(fewest, NOISE, 0.6, 0.01).low == 1
    assert certified_order(fewest - 1, NOISE, 0.6, 0.01).low == 0
    with pytest.raises(MmoodError, match=f"it takes {fewest:,}, or leave it out"):
        SmoothingSettings(copies=fewest - 1, noise=NOISE, radii=(0.6,), alpha=0.01)
    with pytest.raises(MmoodError, match="nor with ten million; take a radius below four times the noise"):
        SmoothingSettings(copies=1000, noise=0.1, radii=(0.8,))


def test_bounds_that_no_copy_is_are_infinite():
    ordered = torch.tensor([1.0, 2.0, 3.0])[:, None, None]

    assert [float(bound) for bound in ordered_bounds(ordered, certified_order(3, NOISE, 3.0, 0.01))] == [
        -torch.inf,
        torch.inf,
    ]


def test_the_bounds_of_a_linear_score_are_the_closed_form():
    """The median of w·(x + σz) is w·x, and its least value in the ball of radius r is w·x - r |w|."""
    generator = torch.Generator().manual_seed(0)
    weight, images = torch.randn(12, generator=generator), torch.randn(4, 3, 2, 2, generator=generator)
    settings = SmoothingSettings(copies=20_000, noise=NOISE, radii=(0.3, 0.6), direction="both")
    smoother = Smoother(settings, (1.0, 1.0, 1.0))

    def score(batch):
        return (batch.flatten(1) @ weight)[:, None]

    values, norm_of = score(images)[:, 0], float(weight.norm())
    worst_id = smoother.columns(score, images, torch.arange(4), ood=False)
    worst_ood = smoother.columns(score, images, torch.arange(4), ood=True)

    slack = 0.15 * NOISE * norm_of
    assert torch.allclose(worst_id[:, 0], values, atol=0.05 * NOISE * norm_of)
    for place, radius in enumerate(settings.radii, start=1):
        low, high = values - radius * norm_of, values + radius * norm_of
        assert bool((worst_id[:, place] <= low).all()), "never above the true bound, but for the share alpha"
        assert bool((worst_id[:, place] >= low - slack).all()), "and not far below it"
        assert bool(((worst_ood[:, place] >= high) & (worst_ood[:, place] <= high + slack)).all())


def test_the_certificate_holds_for_1000_perturbations_of_each_image():
    """A score that is neither linear nor smooth; perturbations on the sphere, half of them along its gradient."""
    generator = torch.Generator().manual_seed(1)
    first, second = torch.randn(12, 16, generator=generator), torch.randn(16, generator=generator)
    images, radius = torch.rand(3, 3, 2, 2, generator=generator), 0.5

    def score(batch):
        return (torch.relu(batch.flatten(1) @ first).sign() @ second + (batch.flatten(1) @ first).amax(1))[:, None]

    settings = SmoothingSettings(copies=4000, noise=NOISE, radii=(radius,), direction="both")
    smoother = Smoother(settings, (1.0, 1.0, 1.0))
    keys = torch.arange(3)
    low = smoother.columns(score, images, keys, ood=False)[:, 1]
    high = smoother.columns(score, images, keys, ood=True)[:, 1]
    assert bool((low < high).all())

    noise = NOISE * torch.randn(2000, 12, generator=generator)
    for image, least, most in zip(images, low.tolist(), high.tolist(), strict=True):
        directions = torch.randn(1000, 12, generator=generator)
        directions[500:] = (
            directions[500:] * 0.1 + (first @ second).sign() * torch.tensor([1.0, -1.0]).repeat(250)[:, None]
        )
        moved = image.flatten() + radius * directions / directions.norm(dim=1, keepdim=True)
        medians = torch.stack([score((row + noise).view(-1, 3, 2, 2))[:, 0].median() for row in moved])
        assert least <= float(medians.min())
        assert float(medians.max()) <= most
        spread = float(medians.max() - medians.min())
        assert spread > 0.05 * (most - least), "the perturbations are no idle ones"
