"""An encoder as a folder of its own, with the weights as they are now, and the settings that load it from there."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import open_clip
from safetensors.torch import save_file
from torch import nn

from mmood.encoders.base import LOCAL, TIMM, AbstractEncoder, EncoderSettings
from mmood.encoders.image_only import ImageEncoder
from mmood.encoders.loading import CONFIG_FILE, HUB
from mmood.encoders.vision_language import VisionLanguageEncoder
from mmood.errors import MmoodError
from mmood.files import write_atomically
from mmood.images.preprocessing import Preprocessing

_OPEN_CLIP_WEIGHTS = "open_clip_model.safetensors"
_TIMM_WEIGHTS = "weights.safetensors"


def save_encoder(encoder: AbstractEncoder, folder: Path) -> None:
    """Write an encoder into a folder, from which `saved_settings` loads it.

    Of an open_clip model architecture, activation and transform are written out, so nothing depends on the tag that
    the weights came from.

    Raises:
        MmoodError: the tokenizer cannot be saved, or the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(encoder, VisionLanguageEncoder):
        _save_open_clip(encoder, folder)
    elif isinstance(encoder, ImageEncoder):
        _save_weights(encoder.model, folder / _TIMM_WEIGHTS)


def saved_settings(settings: EncoderSettings, folder: Path) -> EncoderSettings:
    """Return the settings that load what `save_encoder` wrote; `settings` are those of the encoder that was saved."""
    if settings.name.startswith(TIMM):
        return replace(settings, pretrained=str(folder / _TIMM_WEIGHTS), cache_dir=None)
    return EncoderSettings(f"{LOCAL}{folder}", crop=settings.crop, patches=settings.patches)


def _save_open_clip(encoder: VisionLanguageEncoder, folder: Path) -> None:
    architecture = _architecture(encoder)
    if isinstance(encoder.tokenizer, open_clip.tokenizer.HFTokenizer):
        encoder.tokenizer.save_pretrained(folder)
        architecture["text_cfg"].setdefault("hf_tokenizer_name", encoder.settings.name.removeprefix(HUB))
    elif not isinstance(encoder.tokenizer, open_clip.SimpleTokenizer):
        raise MmoodError(
            f"The tokenizer of '{encoder.settings.name}' cannot be written to a folder; leave the weights where they "
            "are (--weights name)."
        )
    _save_weights(encoder.model, folder / _OPEN_CLIP_WEIGHTS)
    config = {"model_cfg": architecture, "preprocess_cfg": _transform(encoder.preprocessing)}
    write_atomically(folder / CONFIG_FILE, json.dumps(config, indent=1).encode())


def _save_weights(model: nn.Module, path: Path) -> None:
    # Clones, because safetensors takes no two names for one tensor.
    save_file({name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.state_dict().items()}, path)


def _architecture(encoder: VisionLanguageEncoder) -> dict[str, Any]:
    settings = encoder.settings
    config: dict[str, Any] | None = open_clip.get_model_config(settings.name)
    if config is None:
        raise MmoodError(f"open_clip has no configuration of '{settings.name}' that could be saved.")
    tag = open_clip.get_pretrained_cfg(settings.name, settings.pretrained) if settings.pretrained else {}
    if tag.get("quick_gelu", False):
        config["quick_gelu"] = True
    height, width = encoder.image_size
    config["vision_cfg"]["image_size"] = height if height == width else [height, width]
    # The weights come from the folder: neither tower is to look for others.
    for tower in ("vision_cfg", "text_cfg"):
        for name in config[tower].keys() & {"timm_model_pretrained", "hf_model_pretrained"}:
            config[tower][name] = False
    return config


def _transform(preprocessing: Preprocessing) -> dict[str, Any]:
    return {
        "size": list(preprocessing.size),
        "mean": list(preprocessing.mean),
        "std": list(preprocessing.std),
        "interpolation": preprocessing.interpolation,
        "resize_mode": preprocessing.resize_mode,
        "fill_color": preprocessing.fill,
    }
