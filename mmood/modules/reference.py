"""The ID side as the scores see it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mmood.encoders.vision_language import VisionLanguageEncoder


@dataclass(frozen=True)
class TextReference:
    """What a vision-language model knows of the ID classes: their names and text prototypes.

    Attributes:
        class_names: the C ID classes, in the order of the labels.
        prototypes: (C, D) unit-norm text prototypes.
        encoder: the model that embeds further texts.
    """

    class_names: Sequence[str]
    prototypes: Float[Tensor, "classes dim"]
    encoder: VisionLanguageEncoder

    def identity(self) -> dict[str, object]:
        """Return what names the encoder for good."""
        return dict(self.encoder.identity())

    def encode_text(self, texts: Sequence[str], normalise: bool = True) -> Float[Tensor, "texts dim"]:
        """Return float32 embeddings of whole texts, of unit norm unless `normalise` is off, in full precision."""
        with torch.autocast(self.prototypes.device.type, enabled=False):
            return self.encoder.encode_text(texts, normalise)
