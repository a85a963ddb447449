"""A family of learned prompts: contexts of one length, and how they go with class names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mmood.encoders.vision_language import VisionLanguageEncoder
from mmood.errors import MmoodError
from mmood.prompts.tokens import PromptTokens, encode_prompts, prompt_tokens

Pairing = Literal["every", "own", "none"]
PAIRINGS: tuple[Pairing, ...] = ("every", "own", "none")

_TEXTS = 256
"""Texts that pass the text tower at a time, without gradient."""


@dataclass(frozen=True)
class Layout:
    """Which texts a family has.

    Attributes:
        pairing: each context with `every` name (the texts of a name stand together), context c with name c (`own`), or
            contexts by themselves (`none`).
        suffix: what stands behind the name; CoOp has a full stop.
    """

    pairing: Pairing = "every"
    suffix: str = "."

    def names(self, class_names: Sequence[str], contexts: int) -> list[str]:
        """Return the name in each of the T texts, "" for none."""
        if self.pairing == "none":
            return [""] * contexts
        return [name for name in class_names for _ in range(contexts if self.pairing == "every" else 1)]

    def contexts(self, texts: int, contexts: int) -> Int[Tensor, " texts"]:
        """Return the number of the context of each of the T texts."""
        return torch.arange(texts) % contexts

    def tokens(self, encoder: VisionLanguageEncoder, names: Sequence[str], contexts: int, count: int) -> PromptTokens:
        """Return the T texts as tokens."""
        return prompt_tokens(encoder, self.names(names, contexts), count, self.suffix)


@dataclass(frozen=True)
class PromptFamily:
    """Learned contexts.

    Attributes:
        context: (S, M, W) float32 vectors in the place of token embeddings.
        layout: which texts they make.
    """

    context: Float[Tensor, "contexts tokens width"]
    layout: Layout

    @torch.no_grad()
    def encode(self, encoder: VisionLanguageEncoder, names: Sequence[str]) -> Float[Tensor, "texts dim"]:
        """Return the unit-norm embeddings of the T texts, in full precision.

        Raises:
            MmoodError: the context does not fit the text tower, or there is not one for each name.
        """
        contexts, count, width = self.context.shape
        if self.layout.pairing == "own" and contexts != len(names):
            raise MmoodError(
                f"The learned prompts have a context for each of {contexts} classes, but {len(names)} names are given; "
                "a context of its own belongs to one class, so use the class names that it was trained with."
            )
        context = self.context.to(encoder.device)
        tokens = self.layout.tokens(encoder, names, contexts, count)
        if tokens.embeddings.shape[-1] != width:
            raise MmoodError(
                f"The learned prompts have vectors of width {width}, but the text tower of "
                f"'{encoder.settings.name}' takes {tokens.embeddings.shape[-1]}; they belong to another model."
            )
        number = self.layout.contexts(len(tokens.ids), contexts).to(context.device)
        found = [torch.empty(0, encoder.embedding_dim, device=context.device)]
        with torch.autocast(context.device.type, enabled=False):
            for rows in torch.split(torch.arange(len(tokens.ids), device=context.device), _TEXTS):
                found.append(encode_prompts(encoder, tokens, context, number[rows], rows))
        return torch.cat(found)
