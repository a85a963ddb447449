"""From settings to an encoder."""

from __future__ import annotations

from mmood.encoders.base import TIMM, AbstractEncoder, EncoderSettings


def check_settings(settings: EncoderSettings) -> None:
    """Raise MmoodError in a sentence if the settings cannot name an encoder; loads no weights, asks no hub.

    Checked: architecture, tag, checkpoint file, folder with its configuration and weights.
    """
    if settings.name.startswith(TIMM):
        from mmood.encoders.image_only import check_timm

        check_timm(settings)
    else:
        from mmood.encoders.loading import check_open_clip

        check_open_clip(settings)


def build_encoder(settings: EncoderSettings) -> AbstractEncoder:
    """Return the encoder that the settings name, with its weights, in float32 on the CPU and in eval mode.

    `timm:MODEL` gives an `ImageEncoder`, everything else a `VisionLanguageEncoder`. Raises MmoodError for settings
    that `check_settings` refuses, weights that cannot be downloaded, and weights that do not fit.
    """
    if settings.name.startswith(TIMM):
        from mmood.encoders.image_only import ImageEncoder

        return ImageEncoder(settings).eval()
    from mmood.encoders.vision_language import VisionLanguageEncoder

    return VisionLanguageEncoder(settings).eval()
