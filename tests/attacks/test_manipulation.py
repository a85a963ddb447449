"""PLP's manipulation, against its definition."""

import torch
from torch.nn.functional import cosine_similarity

from mmood.attacks.manipulation import manipulated, roughness

SIZE = (3, 8, 8)


def setting():
    random = torch.Generator().manual_seed(0)
    weight = 0.1 * torch.randn(192, 6, generator=random)
    images = torch.rand(4, *SIZE, generator=random)
    targets = torch.randn(4, 6, generator=random)
    noise = torch.randn(4, *SIZE, generator=random)
    return lambda images: torch.tanh(images.flatten(1) @ weight), images, targets, noise


def test_features_meet_the_target():
    features, images, targets, noise = setting()
    found = manipulated(features, images, targets, noise, smoothness=0.0, rate=1e-2)
    before, after = (cosine_similarity(features(each), targets) for each in (images, found))
    assert (before < 0.8).all()
    assert (after > 0.95).all()
    assert found.min() >= 0
    assert found.max() <= 1


def test_smoothness_makes_smooth_changes():
    features, images, targets, noise = setting()
    rough, smooth = (manipulated(features, images, targets, noise, weight) for weight in (0.0, 5e3))
    assert (roughness(smooth - images) < 0.1 * roughness(rough - images)).all()


def test_an_image_is_moved_as_if_it_were_alone():
    features, images, targets, noise = setting()
    together = manipulated(features, images, targets, noise, 10.0, steps=30)
    alone = manipulated(features, images[2:3], targets[2:3], noise[2:3], 10.0, steps=30)
    torch.testing.assert_close(together[2:3], alone)


def test_roughness_is_the_mean_square_of_forward_differences():
    change = torch.randn(2, *SIZE, generator=torch.Generator().manual_seed(1))
    down = torch.cat([change[:, :, 1:] - change[:, :, :-1], torch.zeros(2, 3, 1, 8)], dim=2)
    right = torch.cat([change[..., 1:] - change[..., :-1], torch.zeros(2, 3, 8, 1)], dim=3)
    expected = down.square().mean(dim=(1, 2, 3)) + right.square().mean(dim=(1, 2, 3))
    torch.testing.assert_close(roughness(change), expected)
