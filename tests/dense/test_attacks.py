"""Local attacks: what changes, by how much, and in which direction."""

import pytest
import torch
from torch.nn import functional

from mmood.dense.attacks import LocalAttack, attacked, regions
from mmood.errors import MmoodError

DRAW = torch.Generator().manual_seed(0)
IMAGES = torch.randn(3, 3, 24, 36, generator=DRAW).clamp(-2.5, 2.5)
TARGETS = torch.randint(-2, 4, (3, 24, 36), generator=DRAW)
WEIGHTS = torch.randn(4, 3, generator=DRAW)


def linear(images):
    """Logits that are a linear map of each pixel, so that the gradient is known."""
    return torch.einsum("kc,bchw->bkhw", WEIGHTS, images)


def run(seed=0, **settings):
    settings = {"window": (0.6, 0.6), "noise": 0.0, **settings}
    chosen = LocalAttack(**settings)
    region = regions(TARGETS, chosen, torch.Generator().manual_seed(seed))
    return attacked(IMAGES, TARGETS, linear, chosen, torch.Generator().manual_seed(seed)), region


@pytest.mark.parametrize("kind", ["shapes", "image", "pixels", "class", "rectangle"])
@pytest.mark.parametrize("direction", ["away", "towards"])
def test_only_the_region_changes_and_by_the_step(kind, direction):
    moved, region = run(region=kind, direction=direction, step=0.025)
    inside = region[:, None].expand_as(IMAGES)
    assert torch.equal(moved[~inside], IMAGES[~inside])
    change = (moved - IMAGES).abs()[inside]
    assert ((change < 1e-6) | ((change - 0.025).abs() < 1e-6)).all()
    assert (change > 1e-6).float().mean() > 0.5
    if kind != "image":
        assert 0 < region.float().mean() < 1


def test_nothing_to_do():
    moved, _ = run(step=0.0)
    assert torch.equal(moved, IMAGES)


def cross_entropy(images, targets):
    return functional.cross_entropy(linear(images), targets.clamp(min=-1), ignore_index=-1, reduction="sum")


def test_away_raises_the_loss_by_the_norm_of_the_gradient():
    step = 1e-3
    moved, region = run(region="rectangle", step=step)
    start = IMAGES.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(cross_entropy(start, TARGETS), start)
    gain = cross_entropy(moved, TARGETS) - cross_entropy(IMAGES, TARGETS)
    wanted = step * (gradient.abs() * region[:, None]).sum()
    assert gain.item() == pytest.approx(wanted.item(), rel=0.01)


def test_towards_goes_to_one_class_of_each_image():
    settings = {"region": "image", "direction": "towards", "step": 0.3}
    moved, _ = run(**settings)
    before, after = linear(IMAGES).log_softmax(1), linear(moved).log_softmax(1)
    gain = (after - before).mean(dim=(2, 3))
    assert (gain.amax(dim=1) > 0.1).all()


def test_noise_stays_inside_and_values_are_clamped():
    moved, region = run(region="shapes", noise=0.5, step=0.025, limit=1.0)
    inside = region[:, None].expand_as(IMAGES)
    assert torch.equal(moved[~inside], IMAGES[~inside])
    assert moved[inside].abs().max() <= 1


def test_the_seed_decides():
    assert torch.equal(run(seed=1)[0], run(seed=1)[0])
    assert not torch.equal(run(seed=1)[0], run(seed=2)[0])


def test_a_window_lies_inside_the_image():
    settings = LocalAttack(region="rectangle", window=(0.5, 0.25))
    found = regions(TARGETS, settings, torch.Generator().manual_seed(3))
    assert found.flatten(1).sum(dim=1).tolist() == [12 * 9] * 3


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"step": -1.0}, "step"),
        ({"region": "all"}, "region"),
        ({"window": (0.0, 1.0)}, "window"),
        ({"limit": 0.0}, "limit"),
    ],
)
def test_settings_are_checked(settings, sentence):
    with pytest.raises(MmoodError, match=f"model.attack.{sentence}"):
        LocalAttack(**settings)
