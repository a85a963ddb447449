"""Every family of image towers: the split into features and projection is exact, in one pass."""

import copy
from types import SimpleNamespace

import open_clip
import pytest
import torch
from torch import nn

from mmood.encoders.splitting import image_tower
from mmood.encoders.towers import WholeTower
from mmood.errors import MmoodError


def images(encoder, count=3):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, 3, *encoder.image_size, generator=generator)


@torch.no_grad()
def test_projected_features_are_open_clips_embedding(family):
    encoder, feature_dim, _ = family
    batch = images(encoder)
    encoded = encoder.encode_image(batch)
    expected = encoder.model.encode_image(batch, normalize=False)
    assert torch.equal(encoder.project(encoded.features), expected)
    assert encoded.features.shape == (3, feature_dim) == (3, encoder.feature_dim)
    assert encoded.embedding.shape == (3, encoder.embedding_dim)
    assert torch.allclose(encoded.embedding, nn.functional.normalize(expected, dim=-1))
    assert encoded.features.std(dim=0).max() > 0, "the same features for all images prove nothing"
    assert encoded.patches is None


@torch.no_grad()
def test_one_pass_of_the_tower(family):
    encoder, _, patches = family
    assert encoder.tower.patches == patches, "asked for once, before the hook: it may need shapes of a pass"
    convolution = next(module for module in encoder.model.visual.modules() if isinstance(module, nn.Conv2d))
    calls = []
    handle = convolution.register_forward_hook(lambda *_: calls.append(1))
    encoder.encode_image(images(encoder, 1), patches=patches is not None)
    handle.remove()
    assert calls == [1]


@torch.no_grad()
def test_bfloat16_autocast_gives_float32_of_unit_norm(family):
    encoder, _, patches = family
    batch = images(encoder)
    exact = encoder.encode_image(batch).embedding
    with torch.autocast("cpu", torch.bfloat16):
        encoded = encoder.encode_image(batch, patches=patches is not None)
        text = encoder.encode_text(["a cat", "a dog"])
    tensors = [encoded.embedding, text, *([encoded.patches] if patches else [])]
    for tensor in [encoded.features, *tensors]:
        assert tensor.dtype == torch.float32
    for tensor in tensors:
        norms = tensor.norm(dim=-1)
        assert torch.allclose(norms, torch.ones_like(norms), atol=1e-6)
    assert (encoded.embedding * exact).sum(-1).min() > 0.99


def test_empty_batch_never_reaches_the_tower(family):
    encoder, feature_dim, patches = family
    empty = torch.empty(0, 3, *encoder.image_size)
    encoded = encoder.encode_image(empty, patches=patches is not None)
    assert encoded.features.shape == (0, feature_dim)
    assert encoded.embedding.shape == (0, encoder.embedding_dim)
    if patches is None:
        assert encoded.patches is None
    else:
        assert encoded.patches.shape == (0, patches, encoder.embedding_dim)


@torch.no_grad()
def test_patches_or_a_sentence(family):
    encoder, _, patches = family
    if patches is None:
        with pytest.raises(MmoodError, match="gives none"):
            encoder.encode_image(images(encoder), patches=True)
        return
    local = encoder.encode_image(images(encoder), patches=True).patches
    assert local.shape == (3, patches, encoder.embedding_dim)
    assert torch.allclose(local.norm(dim=-1), torch.ones(3, patches))


def test_adapter_owns_no_weights_and_follows_a_copy(family):
    encoder, _, _ = family
    assert all(name.startswith("model.") for name in encoder.state_dict())
    twin, batch = copy.deepcopy(encoder), images(encoder)
    with torch.no_grad():
        before = encoder.encode_image(batch).features
        for parameter in twin.parameters():
            parameter *= 1.5
        assert torch.equal(encoder.encode_image(batch).features, before)
        assert not torch.equal(twin.encode_image(batch).features, before)


def test_gradients_reach_the_image_tower(vit):
    encoder = copy.deepcopy(vit)
    encoder.encode_image(images(encoder)).embedding[:, 0].sum().backward()
    assert encoder.model.visual.conv1.weight.grad.abs().max() > 0
    assert encoder.model.visual.proj.grad.abs().max() > 0


# One of each kind of tower that open_clip builds.
KINDS = [
    *("ViT-B-32", "RN50", "coca_ViT-B-32", "convnext_base", "EVA02-B-16", "ViT-B-16-SigLIP", "ViTamin-S"),
    *("MobileCLIP-S1", "PE-Core-T-16-384", "swin_base_patch4_window7_224", "vit_medium_patch16_gap_256"),
]


# Their trunks mix positions to the end, or end without a map.
WITHOUT_PATCHES = {"vit_relpos_medium_patch16_cls_224"}


@pytest.mark.parametrize(
    "names", [KINDS, pytest.param(open_clip.list_models(), marks=pytest.mark.long)], ids=["kinds", "all"]
)
def test_every_architecture_is_split(names):
    without = set()
    for name in names:
        if name.endswith("-quickgelu"):
            continue
        arguments = open_clip.get_model_config(name)
        if isinstance(arguments["vision_cfg"].get("layers"), int):
            arguments["vision_cfg"]["layers"] = 1
        custom_text = arguments.pop("custom_text", False)
        # The text tower plays no part here, and Hugging Face's would ask the hub.
        arguments["text_cfg"] = {"context_length": 4, "vocab_size": 8, "width": 32, "heads": 2, "layers": 1}
        kind = open_clip.CustomTextCLIP if custom_text else open_clip.CLIP
        kind = open_clip.CoCa if "multimodal_cfg" in arguments else kind
        with torch.device("meta"):
            model = kind(**arguments)
        tower = image_tower(model)
        assert tower.embedding_dim == arguments["embed_dim"], name
        assert not isinstance(tower, WholeTower), name
        assert tower.grid is None or min(tower.grid) > 1, name
        without.update({name} if tower.grid is None else ())
    assert without <= WITHOUT_PATCHES


class Foreign(nn.Module):
    """A model whose tower is of no known family."""

    def __init__(self):
        super().__init__()
        self.visual = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 5))
        self.visual.image_size = 8

    def encode_image(self, images, normalize=False):
        return self.visual(images)


def test_foreign_tower_ends_in_its_features():
    tower = image_tower(Foreign().train())
    assert (tower.feature_dim, tower.embedding_dim, tower.patches) == (5, 5, None)
    assert tower.model.training
    features, _ = tower.features(torch.ones(2, 3, 8, 8))
    assert tower.project(features) is features


@torch.no_grad()
def test_vit_without_projection_ends_in_its_features(vit):
    encoder = copy.deepcopy(vit)
    encoder.model.visual.proj = None
    tower = image_tower(SimpleNamespace(visual=encoder.model.visual))
    features, _ = tower.features(images(encoder))
    assert tower.embedding_dim == tower.feature_dim == 64
    assert torch.equal(tower.project(features), encoder.model.encode_image(images(encoder)))
