"""CLIP's own maps: tiles where they belong, and scores of patches as scores of images."""

import pytest
import torch

from mmood.dense.scores import DenseReference, OfPatches, PixelMSP
from mmood.dense.transforms import MEAN, STD
from mmood.dense.zero_shot import DenseZeroShot
from mmood.encoders import EncoderSettings
from mmood.errors import MmoodError
from mmood.scores import KNN, MCM, MaxLogit

NAMES = ["sky", "road", "car"]


@pytest.fixture(scope="module")
def module(toy_model):
    scores = {"mcm": OfPatches(MCM()), "gl": OfPatches(MCM(), global_weight=0.5), "plain": PixelMSP()}
    return DenseZeroShot(NAMES, scores, EncoderSettings(toy_model), tiles=(2, 3)).eval()


@torch.no_grad()
def test_every_tile_is_an_input_of_the_tower(module):
    images = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    outputs = module.outputs(images)
    down, across = module.encoder.patch_grid()
    assert outputs.logits.shape == (2, 3, 2 * down, 3 * across)
    preprocessing = module.encoder.preprocessing
    mean, std, own_mean, own_std = (
        torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD, preprocessing.mean, preprocessing.std)
    )
    patches = outputs.patches.embedding.view(2, 2 * down, 3 * across, -1)
    for row in range(2):
        for column in range(3):
            tile = (images * std + mean)[:, :, 32 * row : 32 * row + 32, 32 * column : 32 * column + 32]
            wanted = module.encoder.encode_image((tile - own_mean) / own_std, patches=True).patches
            found = patches[:, down * row : down * (row + 1), across * column : across * (column + 1)].flatten(1, 2)
            torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_a_score_of_images_on_each_patch_and_on_the_whole(module):
    outputs = module.outputs(torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(1)))
    rows = outputs.logits.movedim(1, 3).flatten(0, 2)
    torch.testing.assert_close(outputs.patches.logits, rows)
    mcm, both = (score(outputs) for _, score in module.named_scores()[:2])
    torch.testing.assert_close(both - mcm, 0.5 * MCM()(outputs.whole)[:, None, None].expand_as(mcm))
    torch.testing.assert_close(mcm, module.scores["plain"](outputs), atol=1e-4, rtol=1e-4)


def test_what_a_patch_has_not():
    with pytest.raises(MmoodError, match="which reads features"):
        OfPatches(KNN())
    with pytest.raises(MmoodError, match="needs a vision-language model"):
        OfPatches(MaxLogit()).fit(DenseReference(lambda: pytest.fail("not asked for")))


def test_nothing_to_train(module):
    with pytest.raises(MmoodError, match="nothing to train"):
        module.configure_optimizers()
