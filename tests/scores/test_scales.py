"""Six descriptors of an image and the decision on them: against loops over regions, and brute force over distances."""

from dataclasses import dataclass

import pytest
import torch
from torch.nn.functional import adaptive_avg_pool2d, normalize

from mmood.errors import MmoodError
from mmood.scores import CSD, KNN, CrossScaleKNN
from mmood.scores.base import Bank, Embedded
from mmood.scores.descriptors import LocalDescriptors, LocalHead
from mmood.scores.functional_scales import region_descriptors, region_means


def positions(images, grid=(4, 4), width=5, seed=0):
    return torch.randn(images, grid[0] * grid[1], width, generator=torch.Generator().manual_seed(seed))


@dataclass
class Maps:
    """A reference of ID images that are maps; what is read of them is in `asked`."""

    maps: torch.Tensor
    grid: tuple[int, int] = (4, 4)
    local_head: LocalHead | None = None
    asked: LocalDescriptors | None = None

    @property
    def encoder(self):
        return self

    def map_grid(self):
        return self.grid

    def bank(self, shots=None, transform="eval", descriptors=None):
        self.asked, keys = descriptors, torch.arange(len(self.maps))
        rows = self.maps.mean(dim=1)
        return Bank(rows, keys * 0, keys, None, {"set": "tiny"}, descriptors and descriptors.of(self.maps))


def embedded(maps, reads):
    rows = maps.mean(dim=1)
    return Embedded(rows, rows, **{reads: maps})


def six(image):
    """Return the descriptors of a map (4, 4, D) as MODE names them."""
    regions = [image[:2, :2], image[:2, 2:], image[2:, :2], image[2:, 2:], image, image[1:3, 1:3]]
    return [region.reshape(-1, image.shape[-1]).mean(dim=0) for region in regions]


def test_descriptors_of_four_by_four_are_those_of_mode():
    maps = positions(3)
    expected = torch.stack([torch.stack(six(image.view(4, 4, -1))) for image in maps])
    torch.testing.assert_close(region_descriptors(maps, region_means(4, 4)), normalize(expected, dim=2))


@pytest.mark.parametrize(("grid", "centre"), [((7, 7), 25), ((5, 5), 9), ((14, 14), 64), ((2, 2), 4), ((3, 8), 12)])
def test_quadrants_are_those_of_adaptive_pooling_and_the_centre_is_in_the_middle(grid, centre):
    means = region_means(*grid)
    assert torch.equal(means.sum(dim=1).round(decimals=5), torch.ones(6))
    maps = torch.randn(1, 3, *grid, generator=torch.Generator().manual_seed(0))
    expected = adaptive_avg_pool2d(maps, 2)[0].flatten(1).T
    torch.testing.assert_close(means[:4] @ maps[0].flatten(1).T, expected)
    middle = (means[5] > 0).view(grid)
    assert middle.sum() == centre
    assert torch.equal(middle, middle.flip(0, 1))


def test_a_constant_map_has_six_equal_descriptors():
    found = region_descriptors(torch.tensor([3.0, 4.0]).expand(1, 49, 2), region_means(7, 7))
    torch.testing.assert_close(found, torch.tensor([0.6, 0.8]).expand(1, 6, 2))


@pytest.mark.parametrize("kind", [CSD, CrossScaleKNN])
@pytest.mark.parametrize("k", [1, 10])
def test_score_is_the_best_of_six_by_brute_force(kind, k):
    bank, images = Maps(positions(9)), positions(4, seed=1)
    score = kind(k=k).fit(bank)
    stored = torch.cat([torch.stack(six(image.view(4, 4, -1))) for image in bank.maps])
    stored = stored / stored.norm(dim=1, keepdim=True)
    expected = []
    for image in images:
        descriptors = [mean / mean.norm() for mean in six(image.view(4, 4, -1))]
        distances = [((stored - descriptor) ** 2).sum(dim=1).sort().values[k - 1] for descriptor in descriptors]
        expected.append(max(-distance for distance in distances))
    torch.testing.assert_close(score(embedded(images, score.reads)), torch.stack(expected), rtol=1e-4, atol=1e-5)
    assert bank.asked.reads == score.reads


def test_images_of_the_bank_have_the_largest_score():
    bank = Maps(positions(9))
    score = CrossScaleKNN(k=1).fit(bank)
    torch.testing.assert_close(score(embedded(bank.maps, "patches")), torch.zeros(9), rtol=0, atol=1e-5)
    assert (score(embedded(positions(20, seed=5), "patches")) < -1e-3).all()


def test_a_trained_head_is_in_front_of_csd_only():
    generator = torch.Generator().manual_seed(4)
    head = LocalHead(torch.randn(7, 5, generator=generator), torch.randn(3, 7, generator=generator))
    maps, images = positions(9), positions(4, seed=1)
    with_head = CSD(k=2).fit(Maps(maps, local_head=head))(embedded(images, "feature_map"))

    def through(rows):
        return torch.nn.functional.linear(torch.relu(torch.nn.functional.linear(rows, head.first)), head.second)

    expected = CSD(k=2).fit(Maps(through(maps)))(embedded(through(images), "feature_map"))
    torch.testing.assert_close(with_head, expected)
    reference = Maps(maps, local_head=head)
    CrossScaleKNN(k=2).fit(reference)
    assert reference.asked.head is None


def test_of_constant_maps_it_orders_images_as_knn_does():
    rows, queries = positions(40, (1, 1), 6)[:, 0], positions(25, (1, 1), 6, seed=3)[:, 0]
    spread = [part[:, None].expand(-1, 16, -1) for part in (rows, queries)]
    found = CSD(k=1).fit(Maps(spread[0]))(embedded(spread[1], "feature_map"))
    nearest = KNN(1).fit(Maps(spread[0]))(Embedded(queries, queries))
    torch.testing.assert_close(found, 2 * nearest - 2, rtol=1e-5, atol=1e-5)


def test_regions_without_any_activation_keep_scores_finite():
    bank, images = Maps(positions(9)), positions(2, seed=1)
    images[0] = 0
    scores = CSD(k=3).fit(bank)(embedded(images, "feature_map"))
    assert scores[0] == -2
    assert scores.isfinite().all()
    assert CSD(k=3).fit(bank)(embedded(images[:0], "feature_map")).shape == (0,)


def test_too_few_descriptors_and_missing_maps_are_refused():
    with pytest.raises(MmoodError, match=r"CSD.k is 13, but the ID training set 'tiny' has only 12 descriptors"):
        CSD(k=13).fit(Maps(positions(2)))
    with pytest.raises(MmoodError, match=r"CrossScaleKNN.k is 0"):
        CrossScaleKNN(k=0)
    score = CSD(k=1).fit(Maps(positions(2)))
    with pytest.raises(MmoodError, match="reads the feature map"):
        score(embedded(positions(2), "patches"))


def test_approximate_search_finds_no_better_neighbour():
    pytest.importorskip("faiss")
    bank, images = Maps(positions(60)), embedded(positions(10, seed=1), "feature_map")
    exact, approximate = (CSD(k=2, search=search).fit(bank)(images) for search in ("exact", "approximate"))
    assert (approximate <= exact + 4e-3).all()
