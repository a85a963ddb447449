"""Encoders: open_clip's vision-language models and timm's image towers behind one interface."""

from mmood.encoders.base import AbstractEncoder, EncodedImages, EncoderSettings, ImageTransform
from mmood.encoders.build import build_encoder, check_settings
from mmood.encoders.prompts import load_templates

__all__ = [
    "AbstractEncoder",
    "EncodedImages",
    "EncoderSettings",
    "ImageTransform",
    "build_encoder",
    "check_settings",
    "load_templates",
]
