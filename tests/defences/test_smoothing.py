"""The noise of smoothing: by seed and key, in pixels; and which bound is whose."""

import pytest
import torch

from mmood.defences import Smoother, SmoothingSettings
from mmood.errors import MmoodError

SETTINGS = SmoothingSettings(copies=40, noise=0.2, radii=(0.1,), alpha=0.05, seed=3)
STD = (0.25, 0.5, 1.0)


def score(images):
    return torch.stack([images.mean((1, 2, 3)), images.amax((1, 2, 3))], dim=1)


@pytest.fixture
def images():
    return torch.rand(6, 3, 4, 4, generator=torch.Generator().manual_seed(0))


def test_noise_depends_on_seed_and_key_alone(images):
    keys = torch.tensor([4, 9, 11, 12, 30, 31])
    smoother = Smoother(SETTINGS, STD)
    whole = smoother.copies(score, images, keys)

    assert torch.equal(smoother.copies(score, images[[3]], keys[[3]]), whole[:, [3]]), "alone"
    order = [5, 0, 3, 1, 4, 2]
    assert torch.equal(smoother.copies(score, images[order], keys[order]), whole[:, order]), "in another order"
    assert not torch.equal(smoother.copies(score, images, keys + 1), whole)
    other = Smoother(SmoothingSettings(copies=40, noise=0.2, radii=(0.1,), alpha=0.05, seed=4), STD)
    assert not torch.equal(other.copies(score, images, keys), whole)


def test_the_noise_is_of_pixels_before_the_normalisation(images):
    """What the tower takes is a pixel value divided by its channel's deviation, so there the noise is larger."""
    found = []
    Smoother(SETTINGS, STD).copies(lambda noisy: found.append(noisy) or score(noisy), images, torch.arange(6))
    deviation = (torch.stack(found) - images).std((0, 1, 3, 4))

    assert len(found) == SETTINGS.copies
    assert torch.allclose(deviation * torch.tensor(STD), torch.full((3,), SETTINGS.noise), rtol=0.05)


@pytest.mark.parametrize(
    ("direction", "ood", "side"),
    [("ood-as-id", True, 1), ("ood-as-id", False, 0), ("id-as-ood", False, -1), ("id-as-ood", True, 0),
     ("both", True, 1), ("both", False, -1)],
)  # fmt: skip
def test_bounds_are_in_favour_of_the_adversary(images, direction, ood, side):
    settings = SmoothingSettings(copies=40, noise=0.2, radii=(0.1,), alpha=0.05, direction=direction)
    columns = Smoother(settings, STD).columns(score, images, torch.arange(6), ood)

    assert columns.shape == (6, 4), "two scores, the median and a bound of each"
    assert bool((torch.sign(columns[:, 1::2] - columns[:, ::2]) == side).all())


def test_impossible_settings_are_refused():
    with pytest.raises(MmoodError, match=r"`evaluation.smoothing.direction` is 'up'"):
        SmoothingSettings(direction="up")
    with pytest.raises(MmoodError, match="give each radius once"):
        SmoothingSettings(radii=(0.1, 0.1))
    with pytest.raises(MmoodError, match=r"`evaluation.smoothing.noise` is 0"):
        SmoothingSettings(noise=0)
