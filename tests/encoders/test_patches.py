"""Patch embeddings: the value path against its formula, and every other tower against its pool."""

import copy

import pytest
import timm
import torch
from torch import nn

from mmood.encoders import EncoderSettings, build_encoder
from mmood.encoders.patches import value_path
from mmood.encoders.timm_towers import PooledTokens, TimmTower
from mmood.errors import MmoodError


def images(encoder, count=2):
    return torch.randn(count, 3, *encoder.image_size, generator=torch.Generator().manual_seed(1))


def with_patches(encoder, patches):
    """Return the encoder with the other setting, its weights shared."""
    other = build_encoder(
        EncoderSettings(encoder.settings.name, image_size=encoder.settings.image_size, patches=patches)
    )
    other.model.load_state_dict(encoder.model.state_dict())
    return other


def seen(module, run):
    """Return what a module takes in and gives while the encoder runs, as the oracle sees it: by a hook."""
    found = []
    handle = module.register_forward_hook(lambda _, inputs, output: found.append((inputs[0], output)))
    run()
    handle.remove()
    return found[0]


def unit(rows):
    return nn.functional.normalize(rows, dim=-1)


@pytest.fixture(scope="module")
def tower(request, family_folder):
    """Return the encoder of a named family, timm's transformers at a quarter of their size."""
    size = 112 if request.param in ("siglip", "eva", "timm-class-token") else None
    return build_encoder(EncoderSettings(f"local-dir:{family_folder(request.param)}", image_size=size))


def on(*names):
    return pytest.mark.parametrize("tower", names, indirect=True)


# Each formula in float64, from the input of the last block: value, output projection, residual, MLP.


def open_clip_block(block, x):
    attention, width = block.attn, x.shape[-1]
    value = block.ln_1(x) @ attention.in_proj_weight[2 * width :].T + attention.in_proj_bias[2 * width :]
    x = x + value @ attention.out_proj.weight.T + attention.out_proj.bias
    return x + block.mlp(block.ln_2(x))


def timm_block(block, x):
    weight, bias = block.attn.qkv.weight.chunk(3)[2], block.attn.qkv.bias.chunk(3)[2]
    x = x + block.attn.proj(block.norm1(x) @ weight.T + bias)
    return x + block.mlp(block.norm2(x))


def eva_block(block, x):
    x = x + block.attn.proj(block.norm1(x) @ block.attn.qkv.weight.chunk(3)[2].T + block.attn.v_bias)
    return x + block.mlp(block.norm2(x))


@on("vit", "vit-mean-then-norm", "timm-class-token", "eva")
@torch.no_grad()
def test_value_path_is_its_formula(tower):
    visual = tower.model.visual
    own = hasattr(visual, "transformer")
    block = visual.transformer.resblocks[-1] if own else visual.trunk.blocks[-1]
    encoder, batch = copy.deepcopy(tower), images(tower)
    inner, _ = seen(block, lambda: tower.model.encode_image(batch))
    found = tower.encode_image(batch, patches=True).patches
    block, inner = copy.deepcopy(block).double(), inner.double()
    if own:
        tokens = visual.ln_post.double()(open_clip_block(block, inner)) @ visual.proj.double()
    else:
        formula = eva_block if "eva" in tower.settings.name else timm_block
        tokens = visual.head.double()(visual.trunk.fc_norm.double()(visual.trunk.norm.double()(formula(block, inner))))
        tokens = visual.trunk.get_classifier().double()(tokens)
    tower.model.load_state_dict(encoder.model.float().state_dict())
    tower.float()
    assert torch.allclose(found, unit(tokens[:, 1:]).float(), atol=1e-6)
    assert (found - with_patches(tower, "tokens").encode_image(batch, patches=True).patches).abs().max() > 1e-2


@torch.no_grad()
def test_tokens_are_the_last_plain_tokens(vit):
    encoder, batch = with_patches(vit, "tokens"), images(vit)
    visual = encoder.model.visual
    intermediate = visual.forward_intermediates(
        batch, indices=1, normalize_intermediates=True, intermediates_only=True, output_fmt="NLC"
    )
    expected = unit(intermediate["image_intermediates"][-1] @ visual.proj)
    assert torch.allclose(encoder.encode_image(batch, patches=True).patches, expected, atol=1e-6)


@torch.no_grad()
def test_a_mask_off_the_diagonal_is_a_token_alone(vit):
    block = vit.model.visual.transformer.resblocks[-1]
    tokens = torch.randn(2, 5, 64, generator=torch.Generator().manual_seed(2))
    mask = torch.full((5, 5), -torch.inf).fill_diagonal_(0)
    assert torch.allclose(value_path(block, tokens), block(tokens, attn_mask=mask), atol=1e-6)


@torch.no_grad()
def test_patches_leave_the_embedding_as_it_is(family):
    encoder, _, patches = family
    if patches is not None:
        plain, local = (encoder.encode_image(images(encoder), patches=asked) for asked in (False, True))
        assert torch.equal(plain.features, local.features)


@on("vit")
@torch.no_grad()
def test_without_positions_patches_move_with_the_image(tower):
    encoder = copy.deepcopy(tower)
    encoder.model.visual.positional_embedding.zero_()
    tiles = images(encoder, 1).unfold(2, 8, 8).unfold(3, 8, 8).reshape(1, 3, 16, 8, 8)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(3))

    def patches(pieces):
        rows = pieces.reshape(1, 3, 4, 4, 8, 8).transpose(3, 4).reshape(1, 3, 32, 32)
        return encoder.encode_image(rows, patches=True).patches

    assert torch.allclose(patches(tiles[:, :, order]), patches(tiles)[:, order], atol=1e-6)


@on("resnet")
@torch.no_grad()
def test_clip_resnet_takes_value_and_output_projection(tower):
    batch = images(tower)
    _, last = seen(tower.model.visual.layer4, lambda: tower.model.encode_image(batch))
    pool = tower.model.visual.attnpool
    expected = torch.stack(
        [pool.c_proj(pool.v_proj(last[:, :, row, column])) for row in (0, 1) for column in (0, 1)], 1
    )
    assert torch.allclose(tower.encode_image(batch, patches=True).patches, unit(expected), atol=1e-6)


@on("timm-linear")
@torch.no_grad()
def test_average_pool_is_the_mean_of_the_patches(tower):
    features, local = tower.tower.features(images(tower), "value")
    assert torch.allclose(local.mean(dim=1), features, atol=1e-6)
    assert torch.allclose(tower.project(local).mean(dim=1), tower.project(features), atol=1e-6)


@on("timm-mlp", "timm-classifier", "timm-attention-pool")
@torch.no_grad()
def test_each_position_goes_alone_through_what_follows_the_map(tower):
    batch, trunk, head = images(tower), tower.model.visual.trunk, tower.model.visual.head
    last = trunk.forward_features(batch)
    expected = [head(trunk.forward_head(last[:, :, r : r + 1, c : c + 1])) for r in (0, 1) for c in (0, 1)]
    assert torch.allclose(tower.encode_image(batch, patches=True).patches, unit(torch.stack(expected, 1)), atol=1e-6)


@pytest.mark.parametrize("patches", ["value", "tokens"])
@torch.no_grad()
def test_attention_pool_of_equal_tokens_is_each_of_them(patches):
    """SigLIP's trunk has no class token: without positions all tokens of a grey image are equal."""
    size = {"img_size": 32, "depth": 3, "embed_dim": 32, "num_heads": 2}
    trunk = timm.create_model(
        "vit_tiny_patch16_224", class_token=False, global_pool="map", num_classes=0, **size
    ).eval()
    trunk.pos_embed.zero_()
    trunk.attn_pool.latent.normal_()
    tower = TimmTower(32, 32, PooledTokens(trunk), nn.Identity(), (32, 32))
    pooled, local = tower.features(torch.full((2, 3, 32, 32), 0.3), patches)
    assert local.shape == (2, 4, 32)
    assert torch.allclose(local, pooled[:, None].expand_as(local), atol=1e-5)


@on("coca")
@torch.no_grad()
def test_cocas_pool_takes_each_token_alone(tower):
    encoder, visual, batch = with_patches(tower, "tokens"), tower.model.visual, images(tower)
    _, last = seen(visual.transformer.resblocks[-1], lambda: tower.model.encode_image(batch))
    expected = [visual._pool(last[:, token : token + 1])[0] @ visual.proj for token in range(1, 17)]
    assert torch.allclose(encoder.encode_image(batch, patches=True).patches, unit(torch.stack(expected, 1)), atol=1e-6)


@on("timm-linear", "resnet")
def test_a_convolutional_network_has_no_tokens(tower):
    with pytest.raises(MmoodError, match=r"`model.encoder.patches` is tokens, but .* convolutional network"):
        with_patches(tower, "tokens").encode_image(images(tower), patches=True)


def test_no_other_patches_are_known():
    with pytest.raises(MmoodError, match=r"model\.encoder\.patches is 'q-k'; it must be one of value, tokens"):
        EncoderSettings("ViT-B-16/openai", patches="q-k")
