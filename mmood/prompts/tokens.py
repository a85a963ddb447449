"""Prompts as the text tower takes them in: fixed tokens, and a run of places for learned vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mmood.encoders.vision_language import VisionLanguageEncoder
from mmood.errors import MmoodError

_STAND_INS = ("x", "q")
"""Two words of one token in every tokenizer: where the tokens of their prompts differ, a learned vector goes."""


@dataclass(frozen=True)
class PromptTokens:
    """Texts with M places for learned vectors, at the same positions in all of them.

    Attributes:
        ids: (T, L) token ids; they say where a text ends.
        embeddings: (T, L, W) token embeddings, those at the places without meaning.
        first: position of the first place.
        count: M.
    """

    ids: Int[Tensor, "texts length"]
    embeddings: Float[Tensor, "texts length width"]
    first: int
    count: int

    def to(self, device: torch.device) -> PromptTokens:
        """Return the tokens on a device."""
        return PromptTokens(self.ids.to(device), self.embeddings.to(device), self.first, self.count)

    def beginnings(self, contexts: Float[Tensor, "contexts tokens width"]) -> Float[Tensor, "contexts before width"]:
        """Return what stands up to the last place with each context; the gradient flows to the contexts."""
        start = self.embeddings[:1, : self.first].expand(len(contexts), -1, -1)
        return torch.cat([start, contexts], dim=1)

    def endings(self, rows: Int[Tensor, " rows"]) -> Float[Tensor, "rows after width"]:
        """Return what stands behind the places in some of the texts."""
        return self.embeddings[rows, self.first + self.count :]


def prompt_tokens(encoder: VisionLanguageEncoder, names: Sequence[str], count: int, suffix: str) -> PromptTokens:
    """Return the tokens of `[count places] {name}{suffix}` for each name, on the encoder's device.

    Underscores of a name become blanks. A name that is too long for the context of the text tower loses its end.

    Args:
        encoder: whose tokenizer and token embeddings are used.
        names: what stands behind the places; "" for nothing.
        count: M, places for learned vectors.
        suffix: what stands behind the name, such as ".".

    Raises:
        MmoodError: the places do not fit into the context of the text tower, or it takes no token embeddings.
    """
    written = [" ".join([*("{}" for _ in range(count)), *filter(None, [name.replace("_", " ")])]) for name in names]
    tokens, other = (encoder.tokenize([text.replace("{}", word) + suffix for text in written]) for word in _STAND_INS)
    places = tokens != other if tokens.shape == other.shape else torch.zeros_like(tokens, dtype=torch.bool)
    first = int(places[0].int().argmax()) if len(places) else 0
    wanted = torch.zeros_like(places)
    wanted[:, first : first + count] = True
    # Behind the places there must be room for a word and the end of the text.
    if not torch.equal(places, wanted) or tokens.shape[1] < first + count + 2:
        raise MmoodError(
            f"A context of {count} tokens and a class name do not fit into the text tower of "
            f"'{encoder.settings.name}'; lower the tokens of the context."
        )
    return PromptTokens(tokens, encoder.embed_tokens(tokens).detach(), first, count)


def phrase_embeddings(encoder: VisionLanguageEncoder, phrase: str) -> Float[Tensor, "tokens width"]:
    """Return the token embeddings of a phrase such as "a photo of a", without those that begin and end a text.

    Raises:
        MmoodError: it is empty, or too long for the text tower.
    """
    ids = [encoder.tokenize([f"{phrase} {word}".strip()]) for word in _STAND_INS]
    bare = encoder.tokenize([_STAND_INS[0]])
    first = int((bare != encoder.tokenize([_STAND_INS[1]]))[0].int().argmax())
    differs = (ids[0] != ids[1])[0] if ids[0].shape == ids[1].shape else torch.zeros(1, dtype=torch.bool)
    end = int(differs.int().argmax())
    if end <= first:
        raise MmoodError(f"The phrase '{phrase:.80}' has no token, or too many for '{encoder.settings.name}'.")
    return encoder.embed_tokens(ids[0][:, first:end]).detach()[0]


def encode_prompts(
    encoder: VisionLanguageEncoder,
    tokens: PromptTokens,
    contexts: Float[Tensor, "contexts tokens width"],
    context: Int[Tensor, " rows"],
    rows: Int[Tensor, " rows"],
) -> Float[Tensor, "rows dim"]:
    """Return the unit-norm embeddings of some of the texts; the weights are constants.

    Args:
        encoder: the tower.
        tokens: all texts.
        contexts: the vectors, with gradient.
        context: the number of the context of each of these texts.
        rows: the numbers of the texts.
    """
    if len(contexts) >= len(rows):
        contexts, context = contexts[context], torch.arange(len(rows), device=rows.device)
    return encoder.encode_frozen_endings(tokens.beginnings(contexts), context, tokens.endings(rows), tokens.ids[rows])
