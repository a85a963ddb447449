"""SegNet and its observer: layout as published, and what the observer adds."""

import pytest
import torch

from mmood.dense.segnet import ObserverNet, Seen, SegNet

WIDTH = 1 / 16
IMAGES = torch.randn(2, 3, 40, 56, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def segmenter():
    torch.manual_seed(0)
    return SegNet(5, width=WIDTH).eval()


def test_the_paper_s_network_has_29_million_weights():
    with torch.device("meta"):
        network = SegNet(12)
    convolutions = [module for module in network.modules() if isinstance(module, torch.nn.Conv2d)]
    assert [module.in_channels for module in convolutions] == [
        *(3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512),
        *(512, 512, 512, 512, 512, 512, 256, 256, 256, 128, 128, 64, 64),
    ]
    assert convolutions[-1].out_channels == 12
    assert sum(parameter.numel() for parameter in network.parameters()) == pytest.approx(29.4e6, rel=0.02)


def test_maps_have_the_sizes_of_the_stages(segmenter):
    seen = segmenter.seen(IMAGES)
    assert [tuple(map.shape[2:]) for map in seen.down] == [(20, 28), (10, 14), (5, 7), (2, 3), (1, 1)]
    assert [tuple(map.shape[2:]) for map in seen.up] == [(2, 3), (5, 7), (10, 14), (20, 28)]
    assert seen.logits.shape == (2, 5, 40, 56)
    assert torch.equal(segmenter(IMAGES), seen.logits)


def zeroed(seen):
    return Seen(*(tuple(torch.zeros_like(map) for map in maps) for maps in (seen.down, seen.up)), seen.logits)


def test_an_observer_that_sees_nothing_is_a_plain_segnet(segmenter):
    observer = ObserverNet(width=WIDTH).eval()
    seen = segmenter.seen(IMAGES)
    alone = observer.last(observer.net(IMAGES))[:, 0]
    assert torch.equal(observer(IMAGES, zeroed(seen)), alone)
    assert not torch.allclose(observer(IMAGES, seen), alone)


@pytest.mark.parametrize("place", range(9))
def test_each_map_counts(segmenter, place):
    observer = ObserverNet(width=WIDTH)
    observer.net.train()  # batch norm of this batch: a bottleneck that is constant would hide its neighbours
    observer.net.dropout = (0.0,) * 6
    seen = segmenter.seen(IMAGES)
    maps = [torch.zeros_like(map) for map in (*seen.down, *seen.up)]
    without = observer(IMAGES, Seen(tuple(maps[:5]), tuple(maps[5:]), seen.logits))
    maps[place] = torch.randn(maps[place].shape, generator=torch.Generator().manual_seed(place)) * 5
    assert not torch.equal(observer(IMAGES, Seen(tuple(maps[:5]), tuple(maps[5:]), seen.logits)), without)


def test_the_observer_starts_from_all_but_the_last_layer(segmenter):
    observer = ObserverNet(width=WIDTH)
    before = {name: tensor.clone() for name, tensor in observer.net.state_dict().items()}
    observer.start_from(segmenter)
    after, taken = observer.net.state_dict(), segmenter.state_dict()
    kept = {name for name in after if name.startswith("up.4.1.")}
    assert len(kept) == 7  # weight and bias of the convolution, and five of its norm
    assert all(torch.equal(after[name], before[name]) for name in kept)
    assert all(torch.equal(after[name], taken[name]) for name in after.keys() - kept)
