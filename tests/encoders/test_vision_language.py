"""The encoder on open_clip: loading, transforms, identity."""

import copy
import os
import pickle
import random
import warnings
from dataclasses import replace
from pathlib import Path

import numpy
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from mmood.encoders import EncoderSettings, build_encoder, check_settings
from mmood.errors import MmoodError

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)


def picture(width=90, height=60):
    generator = numpy.random.default_rng(0)
    return Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=numpy.uint8))


@pytest.mark.parametrize("name", open_clip.list_models())
def test_every_architecture_passes_with_its_first_tag(name):
    tags = open_clip.list_pretrained_tags_by_model(name)
    check_settings(EncoderSettings(name, tags[0] if tags else "random"))


@pytest.mark.parametrize(
    ("name", "pretrained", "sentence"),
    [
        ("ViT-B/16", "openai", "did you mean 'ViT-B-16'"),
        ("ViT-B-16", "opneai", "did you mean 'openai'"),
        ("ViT-B-16", None, "openai, laion400m_e31"),
        ("ViT-S-16", None, "it has none"),
        ("ViT-B-16", "weights/none.pt", "no checkpoint file 'weights/none.pt'"),
        ("local-dir:/no/such/folder", None, "no folder '/no/such/folder'"),
        ("hf-hub:nobody", None, "hf-hub:OWNER/MODEL"),
        ("hf-hub:a/b", "openai", "leave it out"),
    ],
)
def test_settings_that_cannot_be(name, pretrained, sentence):
    with pytest.raises(MmoodError, match=sentence):
        check_settings(EncoderSettings(name, pretrained))
    with pytest.raises(MmoodError, match=sentence):
        build_encoder(EncoderSettings(name, pretrained))


def test_tag_may_stand_in_the_name():
    assert EncoderSettings("ViT-B-16/openai") == EncoderSettings("ViT-B-16", "openai")
    with pytest.raises(MmoodError, match="did you mean 'openai'"):
        check_settings(EncoderSettings("ViT-B-16/opneai"))


def test_image_size_must_be_positive():
    with pytest.raises(MmoodError, match="image_size is 0"):
        EncoderSettings("ViT-B-16", "openai", image_size=0)


def test_folder_with_a_tag_is_refused(family_folder):
    with pytest.raises(MmoodError, match="leave it out"):
        check_settings(EncoderSettings(f"local-dir:{family_folder('vit')}", pretrained="random"))


def test_folders_that_lack_something(tmp_path, write_model, tiny_config):
    settings = EncoderSettings(f"local-dir:{tmp_path}")
    for content, sentence in [(None, "no open_clip_config"), ("{", "is not JSON"), ("{}", "no entry 'model_cfg'")]:
        if content is not None:
            (tmp_path / "open_clip_config.json").write_text(content)
        with pytest.raises(MmoodError, match=sentence):
            check_settings(settings)
    write_model(tmp_path, tiny_config)
    check_settings(settings)
    (tmp_path / "open_clip_model.safetensors").unlink()
    with pytest.raises(MmoodError, match="no weights"):
        check_settings(settings)


def test_unreachable_hub_is_one_sentence(monkeypatch):
    def offline(**_):
        raise FileNotFoundError("cannot find the requested files in the local cache.")

    monkeypatch.setattr(open_clip.pretrained, "hf_hub_download", offline)
    for settings in (EncoderSettings("RN50", "openai"), EncoderSettings("hf-hub:owner/model")):
        with pytest.raises(MmoodError, match="HF_HUB_OFFLINE=1") as caught:
            build_encoder(settings)
        assert settings.name in str(caught.value)
        assert "\n" not in str(caught.value)


def test_tokenizer_that_lacks_a_package_comes_before_the_weights(monkeypatch):
    def missing(*_, **__):
        raise ImportError("No module named 'transformers'")

    monkeypatch.setattr(open_clip, "get_tokenizer", missing)
    with pytest.raises(MmoodError, match=r"tokenizer of 'ViT-B-16-SigLIP'.*transformers"):
        build_encoder(EncoderSettings("ViT-B-16-SigLIP", "webli"))


@pytest.fixture
def tiny_name(monkeypatch, tiny_config):
    """Put a tiny architecture with one pretrained tag among open_clip's own."""
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny", tiny_config)
    return "tiny"


def test_weights_of_another_model_and_foreign_files(tiny_name, tmp_path, family_folder):
    folder = family_folder("resnet")
    for name, content in {
        "text.pt": b"no weights",
        "pickle.pt": pickle.dumps(Path("x"), protocol=2),
        "x.safetensors": b"",
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(MmoodError, match="could not be loaded"):
            build_encoder(EncoderSettings(tiny_name, str(tmp_path / name)))
    with pytest.raises(MmoodError, match="could not be loaded"):
        build_encoder(EncoderSettings(tiny_name, str(folder / "open_clip_model.safetensors")))


class Planted:
    """Unpickled, it would create a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_checkpoint_file_is_never_unpickled(tiny_name, tmp_path):
    torch.save({"state_dict": Planted(tmp_path / "planted")}, tmp_path / "weights.pt")
    with pytest.raises(MmoodError, match="could not be loaded"):
        build_encoder(EncoderSettings(tiny_name, str(tmp_path / "weights.pt")))
    assert not (tmp_path / "planted").exists()


def test_random_weights_are_seeded_and_leave_the_generator_alone(tiny_name):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = build_encoder(EncoderSettings(tiny_name, "random"))
    assert torch.equal(torch.rand(3), expected)
    torch.manual_seed(6)
    assert build_encoder(EncoderSettings(tiny_name, "random")).weights_hash() == first.weights_hash()
    assert not first.training


def test_checkpoint_file_is_loaded(tiny_name, tmp_path, family_folder, vit):
    saved = EncoderSettings(tiny_name, str(family_folder("vit") / "open_clip_model.safetensors"))
    assert build_encoder(saved).weights_hash() == vit.weights_hash()
    torch.save({"state_dict": vit.model.state_dict()}, tmp_path / "weights.pt")
    assert build_encoder(EncoderSettings(tiny_name, str(tmp_path / "weights.pt"))).weights_hash() == vit.weights_hash()


def test_tag_decides_the_activation(tiny_name, monkeypatch, family_folder):
    """OpenAI's weights need QuickGELU; the plain architecture name would give them GELU."""
    file = str(family_folder("vit") / "open_clip_model.safetensors")
    tags = {"quick": {"file": file, "quick_gelu": True}, "plain": {"file": file}}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, tiny_name, tags)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        quick, plain = (build_encoder(EncoderSettings(tiny_name, tag)) for tag in tags)
    kinds = [{type(m).__name__ for m in encoder.modules() if "GELU" in type(m).__name__} for encoder in (quick, plain)]
    assert kinds == [{"QuickGELU"}, {"GELU"}]


def test_image_size_is_an_option(family_folder):
    encoder = build_encoder(EncoderSettings(f"local-dir:{family_folder('vit')}", image_size=48))
    assert encoder.image_size == (48, 48)
    assert encoder.transform()(picture()).shape == (3, 48, 48)
    encoded = encoder.encode_image(torch.zeros(2, 3, 48, 48), patches=True)
    assert encoded.patches.shape == (2, 36, 24)


def test_eval_transform_is_open_clips(family_folder, vit):
    _, _, expected = open_clip.create_model_and_transforms(f"local-dir:{family_folder('vit')}")
    transform = pickle.loads(pickle.dumps(vit.transform()))
    assert torch.equal(transform(picture()), expected(picture()))
    assert torch.equal(transform(picture()), transform(picture()))


@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
def test_transform_follows_the_models_settings(write_model, tiny_config, load_folder, tmp_path, mode):
    preprocess = {"mean": [0.5] * 3, "std": [0.25] * 3, "interpolation": "bilinear", "resize_mode": mode}
    encoder = load_folder(write_model(tmp_path / "m", tiny_config, preprocess))
    image = encoder.transform()(Image.new("RGB", (64, 32), (255, 255, 255)))
    assert image.shape == (3, 32, 32)
    assert image.max() == 2
    assert image.min() == (-2 if mode == "longest" else 2)
    identity = encoder.identity()
    assert identity["mean"] == "0.5, 0.5, 0.5"
    assert (identity["interpolation"], identity["resize_mode"]) == ("bilinear", mode)


def test_training_transform_crops_and_never_flips(vit):
    transform = pickle.loads(pickle.dumps(vit.transform(train=True)))
    torch.manual_seed(0)
    crops = [transform(picture(80, 80)) for _ in range(8)]
    assert crops[0].shape == (3, 32, 32)
    assert any(not torch.equal(crops[0], crop) for crop in crops)
    torch.manual_seed(0)
    assert torch.equal(transform(picture(80, 80)), crops[0])
    ramp = Image.fromarray(numpy.tile(numpy.arange(96, dtype=numpy.uint8)[None, :, None], (96, 1, 3)))
    for _ in range(8):
        column = transform(ramp)[0].mean(dim=0)
        assert column[-1] > column[0]


def test_training_scale(vit):
    ramp = Image.fromarray(numpy.tile(numpy.arange(96, dtype=numpy.uint8)[None, :, None], (96, 1, 3)))
    settings = [replace(vit.settings, crop=crop) for crop in ((0.9, 1.0), (0.05, 0.06))]
    whole, small = (build_encoder(one).transform(train=True) for one in settings)
    spans = [[float(t(ramp)[0].max() - t(ramp)[0].min()) for _ in range(4)] for t in (whole, small)]
    assert min(spans[0]) > max(spans[1])


def test_no_crop_trains_on_what_is_evaluated(vit):
    encoder = build_encoder(replace(vit.settings, crop=(1.0, 1.0)))
    image = picture(32, 32)
    assert torch.equal(encoder.transform(train=True)(image), encoder.transform(train=False)(image))


@pytest.mark.parametrize("crop", [(0.0, 1.0), (0.9, 0.8), (0.9, 1.1)])
def test_a_crop_is_a_share_of_the_area(vit, crop):
    with pytest.raises(MmoodError, match=r"encoder\.crop"):
        replace(vit.settings, crop=crop)


def test_weights_hash_sees_one_weight_and_not_the_autocast(vit):
    encoder = copy.deepcopy(vit)
    with torch.autocast("cpu", torch.bfloat16):
        assert encoder.weights_hash() == vit.weights_hash()
    with torch.no_grad():
        encoder.model.visual.proj[0, 0] += 1e-3
    changed = encoder.weights_hash()
    assert changed != vit.weights_hash()
    with torch.no_grad():
        encoder.model.visual.proj[0, 0] = vit.model.visual.proj[0, 0]
    assert encoder.weights_hash() == vit.weights_hash()


def test_identity(vit, family_folder):
    assert vit.identity() == {
        "name": f"local-dir:{family_folder('vit')}",
        "pretrained": None,
        "weights_sha256": vit.weights_hash(),
        "image_size": "32x32",
        "mean": ", ".join(map(str, CLIP_MEAN)),
        "std": "0.26862954, 0.26130258, 0.27577711",
        "interpolation": "bicubic",
        "resize_mode": "shortest",
        "feature_dim": 64,
        "embedding_dim": 24,
    }


def test_weights_are_float32(write_model, tiny_config, load_folder, tmp_path, vit):
    folder = write_model(tmp_path / "m", tiny_config)
    half = {name: tensor.half() for name, tensor in vit.model.state_dict().items()}
    save_file(half, str(folder / "open_clip_model.safetensors"))
    assert {parameter.dtype for parameter in load_folder(folder).parameters()} == {torch.float32}


def test_import_stays_light():
    code = "import sys, mmood.encoders; print(sorted({'open_clip', 'timm', 'torchvision'} & set(sys.modules)))"
    assert os.popen(f'"{os.sys.executable}" -c "{code}"').read().strip() == "[]"


@pytest.mark.skipif("MMOOD_REAL_DATA" not in os.environ, reason="needs a small real model: set MMOOD_REAL_DATA")
@torch.no_grad()
def test_real_model_equals_plain_open_clip(load_folder):
    folder = Path(os.environ["MMOOD_REAL_DATA"]) / "models" / "miniclip"
    encoder = load_folder(folder)
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    model.eval()
    images = torch.stack([preprocess(picture(80 + random.randrange(9), 70)) for _ in range(4)])
    expected = model.encode_image(images, normalize=True)
    assert torch.allclose(encoder.encode_image(images).embedding, expected, atol=1e-6)
    texts = ["a photo of a goldfish", "a teapot"]
    expected = model.encode_text(open_clip.get_tokenizer(f"local-dir:{folder}")(texts), normalize=True)
    assert torch.allclose(encoder.encode_text(texts), expected, atol=1e-6)
    assert (encoder.feature_dim, encoder.embedding_dim, encoder.image_size) == (512, 256, (64, 64))
