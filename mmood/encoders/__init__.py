"""Encoders: open_clip's vision-language models and timm's image towers behind one interface."""
