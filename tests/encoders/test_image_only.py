"""Image-only encoders of timm."""

import pickle

import pytest
import timm
import torch
from PIL import Image

from mmood.encoders import EncoderSettings, build_encoder, check_settings
from mmood.encoders.image_only import ImageEncoder
from mmood.errors import MmoodError


@pytest.fixture(scope="module")
def encoder():
    return build_encoder(EncoderSettings("timm:resnet18", "random", image_size=64))


@torch.no_grad()
def test_features_are_pooled(encoder):
    assert isinstance(encoder, ImageEncoder)
    images = torch.randn(3, 3, 64, 64)
    encoded = encoder.encode_image(images)
    expected = encoder.model.forward_features(images).mean(dim=(2, 3))
    assert torch.allclose(encoded.features, expected, atol=1e-5)
    assert encoded.features.shape == (3, encoder.feature_dim)
    assert encoder.embedding_dim is None
    assert encoded.embedding is None
    assert encoder.encode_image(images[:0]).features.shape == (0, 512)
    with torch.autocast("cpu", torch.bfloat16):
        assert encoder.encode_image(images).features.dtype == torch.float32


@torch.no_grad()
def test_the_feature_map_is_what_is_pooled(encoder):
    images = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    encoded = encoder.encode_image(images, feature_map=True)
    assert encoder.map_grid() == (2, 2)
    expected = encoder.model.forward_features(images)
    assert torch.allclose(encoded.feature_map, expected.flatten(2).mT, atol=1e-6)
    assert torch.allclose(encoded.features, encoder.encode_image(images).features, atol=1e-6)
    assert encoder.encode_image(images).feature_map is None
    assert encoder.encode_image(images[:0], feature_map=True).feature_map.shape == (0, 4, 512)
    tokens = build_encoder(EncoderSettings("timm:resnet18", "random", image_size=64, patches="tokens"))
    with pytest.raises(MmoodError, match=r"`model.encoder.patches` is tokens, but .* set it to value"):
        tokens.encode_image(images, feature_map=True)


def test_patches_are_refused(encoder):
    with pytest.raises(MmoodError, match="image-only"):
        encoder.encode_image(torch.zeros(1, 3, 64, 64), patches=True)


def test_transforms(encoder):
    image = Image.new("RGB", (100, 80), (10, 200, 30))
    for train in (False, True):
        transform = pickle.loads(pickle.dumps(encoder.transform(train)))
        assert transform(image).shape == (3, 64, 64)
    plain = build_encoder(EncoderSettings("timm:resnet18", "random"))
    expected = timm.data.create_transform(**timm.data.resolve_model_data_config(plain.model))
    assert torch.equal(plain.transform()(image), expected(image))
    assert plain.image_size == (224, 224)


@torch.no_grad()
def test_size_of_a_transformer():
    encoder = build_encoder(EncoderSettings("timm:vit_tiny_patch16_224.augreg_in21k", "random", image_size=64))
    assert encoder.encode_image(torch.zeros(1, 3, 64, 64)).features.shape == (1, 192)


@torch.no_grad()
def test_features_wider_than_the_trunk():
    encoder = build_encoder(EncoderSettings("timm:mobilenetv3_small_050", "random", image_size=32))
    assert encoder.encode_image(torch.zeros(1, 3, 32, 32)).features.shape == (1, encoder.feature_dim)


def test_checkpoint_file_without_its_classifier(encoder, tmp_path):
    model = timm.create_model("resnet18", num_classes=7)
    model.load_state_dict(encoder.model.state_dict(), strict=False)
    torch.save({"state_dict": model.state_dict()}, tmp_path / "weights.pt")
    settings = EncoderSettings("timm:resnet18", str(tmp_path / "weights.pt"))
    assert build_encoder(settings).weights_hash() == encoder.weights_hash()
    (tmp_path / "weights.pt").write_bytes(b"no weights")
    with pytest.raises(MmoodError, match="could not be loaded"):
        build_encoder(settings)


def test_identity(encoder):
    identity = encoder.identity()
    assert identity["name"] == "timm:resnet18"
    assert identity["pretrained"] == "random"
    assert identity["weights_sha256"] == encoder.weights_hash()
    assert (identity["feature_dim"], identity["embedding_dim"]) == (512, None)


@pytest.mark.parametrize(
    ("name", "pretrained", "sentence"),
    [
        ("timm:resnet19", None, "did you mean 'resnet18'"),
        ("timm:resnet18.a1_in2k", None, "did you mean 'a1_in1k'"),
        ("timm:resnet18", "a1_in1k", "belongs in the name"),
        ("timm:test_none", None, "no timm model"),
    ],
)
def test_settings_that_cannot_be(name, pretrained, sentence):
    with pytest.raises(MmoodError, match=sentence):
        check_settings(EncoderSettings(name, pretrained))


def test_settings_that_can_be():
    check_settings(EncoderSettings("timm:resnet18"))
    check_settings(EncoderSettings("timm:vit_base_patch16_224.augreg_in21k"))


def test_unreachable_hub_is_one_sentence(monkeypatch):
    def offline(*_, **__):
        raise FileNotFoundError("cannot find the requested files in the local cache.")

    monkeypatch.setattr(timm.models._hub, "hf_hub_download", offline)
    with pytest.raises(MmoodError, match="HF_HUB_OFFLINE=1"):
        build_encoder(EncoderSettings("timm:resnet18.a1_in1k"))
