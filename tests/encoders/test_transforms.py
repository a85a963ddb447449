"""What image transforms refuse, before they take memory for it."""

import pytest
from PIL import Image

from mmood.encoders import EncoderSettings, build_encoder
from mmood.encoders.transforms import eval_transform, train_transform
from mmood.errors import ImageError
from mmood.images.preprocessing import MAX_RESIZED, Preprocessing
from mmood.images.rgb import MAX_PIXELS


def transform(mode):
    return eval_transform(Preprocessing((8, 8), (0.5,) * 3, (0.5,) * 3, "bicubic", mode))


def test_what_would_be_huge_or_nothing_when_resized():
    assert transform("shortest")(Image.new("RGB", (1000, 1))).shape == (3, 8, 8)
    with pytest.raises(
        ImageError, match=f"3000000 x 1 pixels and would be resized to 24000000 x 8; only 1 to {MAX_RESIZED} pixels"
    ):
        transform("shortest")(Image.new("RGB", (3_000_000, 1)))
    with pytest.raises(ImageError, match="would be resized to 8 x 24000000"):
        transform("shortest")(Image.new("RGB", (1, 3_000_000)))
    with pytest.raises(ImageError, match="would be resized to 8 x 0"):
        transform("longest")(Image.new("RGB", (100, 1)))
    assert transform("squash")(Image.new("RGB", (100_000, 1))).shape == (3, 8, 8)
    assert MAX_RESIZED <= MAX_PIXELS


def test_training_crops_are_no_larger_than_the_input():
    crop = train_transform(Preprocessing((8, 8), (0.5,) * 3, (0.5,) * 3, "bicubic", "shortest"), (0.9, 1.0))
    assert crop(Image.new("RGB", (3_000_000, 1))).shape == (3, 8, 8)


def test_image_only_encoders_refuse_it_too():
    encoder = build_encoder(EncoderSettings("timm:resnet18", "random", image_size=64))
    assert encoder.transform()(Image.new("RGB", (300, 30))).shape == (3, 64, 64)
    with pytest.raises(ImageError, match="would be resized"):
        encoder.transform()(Image.new("RGB", (1_000_000, 1)))
