"""The transform without torch: bit for bit that of open_clip and timm."""

from dataclasses import replace

import numpy as np
import pytest
from open_clip import image_transform
from PIL import Image
from timm.data import create_transform

from mmood.encoders.transforms import eval_transform
from mmood.errors import MmoodError
from mmood.images.preprocessing import Preprocessing

SIZES = [(64, 64), (37, 90), (200, 33), (32, 32), (31, 47), (1, 5), (500, 499)]
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def picture(size):
    generator = np.random.default_rng(sum(size))
    return Image.fromarray(generator.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("mode", ["shortest", "squash", "longest"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_it_is_open_clips(size, mode, interpolation):
    settings = Preprocessing((32, 32), MEAN, STD, interpolation, mode, fill=9)
    arguments = {"resize_mode": mode, "interpolation": interpolation, "fill_color": 9}
    theirs = image_transform((32, 32), is_train=False, mean=MEAN, std=STD, **arguments)(picture(size)).numpy()
    assert np.array_equal(settings.pixels(picture(size)), theirs)
    assert np.array_equal(eval_transform(settings)(picture(size)).numpy(), theirs)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("mode", "share"), [("center", 0.9), ("center", 1.0), ("squash", 0.875)])
def test_it_is_timms(size, mode, share):
    settings = Preprocessing((32, 32), MEAN, STD, "bicubic", f"{mode} {share}")
    theirs = create_transform((3, 32, 32), mean=MEAN, std=STD, interpolation="bicubic", crop_pct=share, crop_mode=mode)
    assert np.array_equal(settings.pixels(picture(size)), theirs(picture(size)).numpy())


def test_squash_may_be_no_square():
    settings = Preprocessing((24, 40), MEAN, STD, "bicubic", "squash")
    theirs = image_transform((24, 40), is_train=False, mean=MEAN, std=STD, resize_mode="squash")
    assert np.array_equal(settings.pixels(picture((64, 64))), theirs(picture((64, 64))).numpy())


@pytest.mark.parametrize("mode", ["border 1.0", "shortest"])
def test_what_has_no_such_form_is_refused(mode):
    with pytest.raises(MmoodError, match="is only available with torch"):
        Preprocessing((24, 40), MEAN, STD, "bicubic", mode).pixels(picture((64, 64)))


def smooth(size):
    """Return a picture whose pixels are like their neighbours, as in a photograph."""
    return picture((max(2, size[0] // 4), max(2, size[1] // 4))).resize(size, Image.Resampling.BICUBIC)


@pytest.mark.parametrize("size", [(64, 64), (137, 90), (500, 375)])
@pytest.mark.parametrize("mode", ["shortest", "squash", "longest", "center 0.9"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_torch_resizes_as_pillow_up_to_three_of_255(size, mode, interpolation):
    settings = Preprocessing((32, 32), (0.0,) * 3, (1 / 255,) * 3, interpolation, mode, fill=9)
    pillow = settings.pixels(smooth(size))
    by_torch = eval_transform(replace(settings, resize="torch"))(smooth(size)).numpy()
    gap = np.abs(by_torch - pillow)
    assert by_torch.shape == pillow.shape
    assert gap.max() <= 3.01
    assert gap.mean() < 0.5


def test_what_resized_is_part_of_the_identity_and_needs_torch():
    pillow = Preprocessing((32, 32), MEAN, STD, "bicubic", "shortest")
    by_torch = replace(pillow, resize="torch")
    assert "resize" not in pillow.identity(), "stores and runs of before keep their names"
    assert by_torch.identity() == {"resize": "torch", **pillow.identity()}
    assert Preprocessing.of_identity(by_torch.identity()) == by_torch
    pillow.check_without_torch()
    with pytest.raises(MmoodError, match="resized by torch"):
        by_torch.check_without_torch()
