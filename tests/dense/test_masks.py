"""Masks as data: labels, image and mask moved together, and one sentence for each thing that can be wrong."""

import numpy as np
import pytest
import torch
from PIL import Image
from street_world import png

from mmood.dense.decoding import PairDecoder
from mmood.dense.labels import IGNORED, OOD, MaskLabels
from mmood.dense.transforms import MEAN, STD, Augmentation, PairTransform, split
from mmood.errors import MmoodError
from mmood.loading.decoding import SampleError
from mmood.shards.reading import RawSample

LABELS = MaskLabels(("sky", "road", "car", "animal", "void"), frozenset({3}), frozenset({4, 255}))


def test_labels_become_classes():
    assert LABELS.id_names == ("sky", "road", "car")
    found = LABELS.targets(np.array([[0, 1, 2, 3, 4, 255]]))
    assert found.tolist() == [[0, 1, 2, OOD, IGNORED, IGNORED]]
    gap = MaskLabels(("a", "b", "c"), frozenset({1}))
    assert gap.targets(np.array([[0, 1, 2]])).tolist() == [[0, OOD, 1]]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((("a", "b"), frozenset({2})), "data.ood_labels` has 2"),
        ((("a", "b"), frozenset(), frozenset({256})), "data.ignore_labels` has 256"),
        ((("a", "b"), frozenset({1}), frozenset({1})), "label 1 is in both"),
        ((("a", "b"), frozenset({1}), frozenset({0})), "No label is left"),
    ],
)
def test_settings_that_contradict_each_other(arguments, sentence):
    with pytest.raises(MmoodError, match=sentence):
        MaskLabels(*arguments)


def sample(image=None, mask=None):
    return RawSample(7, "shard", "name", png(np.zeros((6, 8, 3), np.uint8)) if image is None else image, mask=mask)


def decoded(mask):
    return PairDecoder(PairTransform((32, 32)), LABELS)(sample(mask=mask))


@pytest.mark.parametrize(
    ("mask", "sentence"),
    [
        (None, "there is no mask"),
        (png(np.zeros((6, 9), np.uint8)), "the mask has 9 x 6 pixels, but the image has 8 x 6"),
        (png(np.full((6, 8), 17, np.uint8)), "the mask has the label 17, but there are 5 names"),
        (png(np.zeros((6, 8, 3), np.uint8)), "the mask has the mode RGB"),
        (b"no picture", "cannot be decoded"),
        (png(np.zeros((6, 8), np.uint8))[:40], "cannot be decoded"),
    ],
)
def test_a_mask_that_cannot_be_used(mask, sentence):
    with pytest.raises(SampleError, match=sentence):
        decoded(mask)


def colour_coded(size):
    """Return an image whose red channel is 40 times the label of its pixel, so that one shows where the other went."""
    labels = np.random.default_rng(0).integers(0, 4, (size[0] // 8, size[1] // 8)).repeat(8, 0).repeat(8, 1)
    return Image.fromarray(np.stack([labels * 40] * 3, axis=2).astype(np.uint8)), labels.astype(np.int64)


@pytest.mark.parametrize("size", [(64, 96), (48, 80), (96, 160)])
@pytest.mark.parametrize("seed", range(6))
def test_image_and_mask_move_together(seed, size):
    image, labels = colour_coded((64, 96))
    torch.manual_seed(seed)
    pair = PairTransform(size, Augmentation(crop=0.4, flip=0.5, jitter=0))(image, labels)
    images, targets = split(pair[None])
    red = (images[0, 0] * STD[0] + MEAN[0]) * 255 / 40
    # Away from edges, where colours mix, both say the same.
    inner = torch.from_numpy(np.array([[len(set(targets[0, y - 1 : y + 2, x - 1 : x + 2].flatten().tolist())) == 1
                                        for x in range(1, size[1] - 1)] for y in range(1, size[0] - 1)]))  # fmt: skip
    assert inner.float().mean() > 0.3
    assert torch.equal(red[1:-1, 1:-1].round().long()[inner], targets[0, 1:-1, 1:-1][inner])


def test_evaluation_changes_nothing_at_native_size():
    image, labels = colour_coded((64, 96))
    pair = PairTransform((64, 96))(image, labels)
    assert torch.equal(pair[3].long(), torch.from_numpy(labels))
    wanted = torch.from_numpy(np.array(image)).movedim(2, 0).float() / 255
    torch.testing.assert_close(pair[:3] * torch.tensor(STD).view(3, 1, 1) + torch.tensor(MEAN).view(3, 1, 1), wanted)


def test_negative_targets_survive():
    image, labels = colour_coded((32, 32))
    labels[:] = IGNORED
    labels[8:16] = OOD
    assert sorted(PairTransform((64, 64))(image, labels)[3].unique().tolist()) == [IGNORED, OOD]
