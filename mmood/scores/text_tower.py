"""The text tower as scores see it: texts and token embeddings in, unit-norm embeddings out, its weights constant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mmood.encoders.base import AbstractEncoder
from mmood.encoders.shared_beginnings import Begun, Endings
from mmood.encoders.vision_language import with_texts


@dataclass(frozen=True)
class Tokens:
    """Texts as the text tower takes them in; a score may put embeddings of its own in the place of a token.

    Attributes:
        ids: (T, L) token ids; they say where a text ends.
        embeddings: (T, L, W) token embeddings, before positions are added; no gradient leads back from them.
    """

    ids: Int[Tensor, "texts length"]
    embeddings: Float[Tensor, "texts length width"]


@final
@dataclass(frozen=True)
class TextTower:
    """The text tower of an encoder, its weights constant.

    Attributes:
        encoder: a vision-language model.
    """

    encoder: AbstractEncoder

    @property
    def device(self) -> torch.device:
        """Where its weights are; MmoodError if there is no text encoder."""
        return with_texts(self.encoder).device

    def encode_text(self, texts: Sequence[str], normalise: bool = True) -> Float[Tensor, "texts dim"]:
        """Return float32 embeddings of whole texts (no template is applied), on the device of the encoder.

        They are of unit norm unless `normalise` is off.

        Raises:
            MmoodError: the encoder has no text encoder.
        """
        encoder = with_texts(self.encoder)
        with torch.autocast(encoder.device.type, enabled=False):
            return encoder.encode_text(texts, normalise)

    def tokens(self, texts: Sequence[str]) -> Tokens:
        """Return whole texts as tokens of one length, as few as `encode_tokens` needs.

        Autograd may use them, even where the caller is in inference mode.

        Raises:
            MmoodError: there is no text encoder, or it takes no token embeddings.
        """
        encoder = with_texts(self.encoder)
        with torch.inference_mode(False), torch.no_grad():
            return Tokens(*encoder.frozen_tokens(texts))

    def encode_tokens(
        self, embeddings: Float[Tensor, "texts length width"], ids: Int[Tensor, "texts length"]
    ) -> Float[Tensor, "texts dim"]:
        """Return float32 unit-norm embeddings of texts given by token embeddings, in full precision.

        The gradient flows to the token embeddings; the weights are constants. `ids` are those of `tokens`.
        """
        encoder = with_texts(self.encoder)
        with torch.autocast(encoder.device.type, enabled=False):
            return encoder.encode_frozen_tokens(embeddings, ids)

    def begin(
        self, beginnings: Float[Tensor, "beginnings before width"], lengths: Int[Tensor, " beginnings"]
    ) -> Begun | None:
        """Return what the tower makes of beginnings of texts, given by token embeddings, padded behind their lengths.

        None for a tower to which each text has to be given as a whole. Autograd may use it, as it may use `tokens`.
        """
        encoder = with_texts(self.encoder)
        with torch.inference_mode(False), torch.no_grad(), torch.autocast(encoder.device.type, enabled=False):
            return encoder.begin_frozen(beginnings, lengths)

    def encode_endings(self, begun: Begun, endings: Endings) -> Float[Tensor, "texts dim"]:
        """Return the embeddings of texts as `encode_tokens` does, their beginnings known by `begin`.

        The gradient flows to the token embeddings of the endings.
        """
        encoder = with_texts(self.encoder)
        with torch.autocast(encoder.device.type, enabled=False):
            return encoder.end_frozen(begun, endings)
