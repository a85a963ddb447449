"""Tiny random models of every tower family, saved as open_clip folders; nothing here reaches a hub."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import save_model

from mmood.encoders import EncoderSettings, build_encoder
from mmood.encoders.vision_language import VisionLanguageEncoder

VIT = {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8}
TEXT = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
SIGLIP_TEXT = {**TEXT, "no_causal_mask": True, "proj_bias": True, "pool_type": "last"}
COCA_TEXT = {**TEXT, "embed_cls": True, "output_tokens": True}
CONVNEXT = {"timm_model_name": "convnext_atto", "image_size": 64}


def config(vision: dict, embed_dim: int = 24, text: dict = TEXT, **more: object) -> dict:
    return {"embed_dim": embed_dim, "vision_cfg": vision, "text_cfg": text, **more}


# Per family: configuration, width of the features, number of patches.
FAMILIES = {
    "vit": (config(VIT), 64, 16),
    "vit-mean-then-norm": (config({**VIT, "pool_type": "avg", "final_ln_after_pool": True}), 64, 16),
    "coca": (
        config(
            {**VIT, "attentional_pool": True, "attn_pooler_heads": 4, "attn_pooler_queries": 8, "output_tokens": True},
            text=COCA_TEXT,
            multimodal_cfg={**TEXT, "n_queries": 8},
            custom_text=True,
        ),
        24,
        16,
    ),
    "resnet": (config({"layers": [1, 1, 1, 1], "width": 8, "head_width": 64, "image_size": 64}), 24, 4),
    "timm-linear": (config({"timm_model_name": "resnet18", "image_size": 64, "timm_pool": "avg"}), 512, 4),
    "timm-mlp": (config({**CONVNEXT, "timm_proj": "mlp", "timm_pool": ""}), 320, 4),
    "timm-classifier": (config({**CONVNEXT, "timm_proj": None}), 320, 4),
    "timm-attention-pool": (
        config({**CONVNEXT, "timm_proj": "linear", "timm_pool": "rot_attn", "timm_drop": 0.1}),
        24,
        4,
    ),
    "timm-only-attention-pool": (config({**CONVNEXT, "timm_proj": "", "timm_pool": "rot_attn"}), 24, 4),
    "timm-learned-positions": (config({**CONVNEXT, "timm_proj": "", "timm_pool": "abs_attn"}), 24, None),
    "timm-class-token": (
        config(
            {"timm_model_name": "vit_tiny_patch16_224", "image_size": 224, "timm_pool": "token"},
            custom_text=True,
        ),
        192,
        49,
    ),
    "siglip": (
        config(
            {
                "timm_model_name": "vit_tiny_patch16_224",
                "image_size": 224,
                "timm_pool": "map",
                "timm_proj": "none",
            },
            embed_dim=192,
            text=SIGLIP_TEXT,
            custom_text=True,
            init_logit_bias=-10.0,
        ),
        192,
        49,
    ),
    "eva": (
        config(
            {
                "timm_model_name": "eva02_tiny_patch14_224",
                "image_size": 224,
                "timm_pool": "token",
                "timm_proj": None,
            },
            custom_text=True,
        ),
        192,
        64,
    ),
}


def save_folder(folder: Path, model_cfg: dict, preprocess_cfg: dict | None = None, seed: int = 0) -> Path:
    """Write a random open_clip model as a folder that `local-dir:` reads."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {"model_cfg": model_cfg, "preprocess_cfg": preprocess_cfg or {}}
    (folder / "open_clip_config.json").write_text(json.dumps(content))
    arguments = copy.deepcopy(model_cfg)
    custom_text = arguments.pop("custom_text", False)
    kind = open_clip.CoCa if "multimodal_cfg" in arguments else open_clip.CLIP
    kind = open_clip.CustomTextCLIP if custom_text and kind is open_clip.CLIP else kind
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = kind(**arguments)
        # Away from the initial state, where some layers are zero or the same for every image.
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.02 * torch.randn_like(parameter)
    save_model(model, str(folder / "open_clip_model.safetensors"))
    return folder


@pytest.fixture(scope="package", autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny tensors are slower on several threads, and much slower where the cores are taken."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def family_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the function that gives the saved model of a family, written once."""
    root = tmp_path_factory.mktemp("families")

    def folder(name: str) -> Path:
        return root / name if (root / name).exists() else save_folder(root / name, FAMILIES[name][0])

    return folder


def load(folder: Path, image_size: int | None = None) -> VisionLanguageEncoder:
    encoder = build_encoder(EncoderSettings(f"local-dir:{folder}", image_size=image_size))
    assert isinstance(encoder, VisionLanguageEncoder)
    return encoder


@pytest.fixture(scope="session")
def vit(family_folder: Callable[[str], Path]) -> VisionLanguageEncoder:
    return load(family_folder("vit"))


@pytest.fixture(scope="session", params=list(FAMILIES))
def family(
    request: pytest.FixtureRequest, family_folder: Callable[[str], Path]
) -> tuple[VisionLanguageEncoder, int, int | None]:
    """Return the encoder of a family with its width of features and its number of patches."""
    model_cfg, feature_dim, patches = FAMILIES[request.param]
    # timm's transformers come at 224 pixels: an image a quarter as large is quicker.
    size = 112 if model_cfg["vision_cfg"]["image_size"] == 224 else None
    return load(family_folder(request.param), size), feature_dim, patches


@pytest.fixture(scope="session")
def write_model() -> Callable[..., Path]:
    return save_folder


@pytest.fixture(scope="session")
def tiny_config() -> dict:
    return FAMILIES["vit"][0]


@pytest.fixture(scope="session")
def load_folder() -> Callable[[Path], VisionLanguageEncoder]:
    return load
