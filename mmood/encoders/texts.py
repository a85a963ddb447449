"""Text towers of open_clip: where the token embeddings live, and passes that start from given ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float, Int
from open_clip import CLIP
from open_clip.transformer import TextTransformer
from torch import Tensor, nn

from mmood.encoders.towers import VisionLanguageModel
from mmood.errors import MmoodError


def token_embedding(model: VisionLanguageModel) -> nn.Embedding:
    """Return the layer that looks tokens up, or raise MmoodError for a text tower that is not open_clip's own."""
    if isinstance(model, CLIP):
        layer = model.token_embedding
    elif isinstance(model.text, TextTransformer):
        layer = model.text.token_embedding
    else:
        raise MmoodError(
            f"Text from token embeddings needs one of open_clip's own text towers, and this model has a "
            f"{type(model.text).__name__}; choose a CLIP, SigLIP or CoCa architecture."
        )
    assert isinstance(layer, nn.Embedding)
    return layer


@contextmanager
def given_embeddings(layer: nn.Embedding, embeddings: Tensor) -> Iterator[None]:
    """Let a look-up layer answer with `embeddings` inside the block.

    A hook, so that positions, masks and pooling stay open_clip's own for every kind of text tower.
    """

    def answer(module: nn.Module, tokens: tuple[Tensor, ...], found: Tensor) -> Tensor:
        if found.shape != embeddings.shape:
            raise MmoodError(
                f"Token embeddings have the shape {tuple(embeddings.shape)}, but the tokens ask for "
                f"{tuple(found.shape)}."
            )
        return embeddings

    handle = layer.register_forward_hook(answer)
    try:
        yield
    finally:
        handle.remove()


def needed_length(model: VisionLanguageModel, tokens: Int[Tensor, "texts length"]) -> int:
    """Return how many leading tokens decide the embeddings of these texts: all, or up to the last end of a text.

    Behind the end of a text stands padding, which a causal tower that pools at the end never looks at.
    """
    part, _ = _part(model)
    pool = part.text_pool_type if isinstance(part, CLIP) else part.pool_type
    appends = not isinstance(part, CLIP) and part.cls_emb is not None
    if len(tokens) == 0 or part.attn_mask is None or appends or pool not in ("argmax", "eos"):
        return tokens.shape[1]
    end = part.text_eos_id if isinstance(part, CLIP) else part.eos_id
    ends = tokens.argmax(dim=-1) if pool == "argmax" else (tokens == end).int().argmax(dim=-1)
    return int(ends.max()) + 1


def encode_frozen(
    model: VisionLanguageModel,
    embeddings: Float[Tensor, "texts length width"],
    tokens: Int[Tensor, "texts length"],
) -> Float[Tensor, "texts dim"]:
    """Return the projected embeddings of texts given by token embeddings, with gradient to these and to no weight.

    The weights enter as constants, whatever they are to others: nothing is kept for their gradients. The texts may be
    cut to `needed_length`.
    """
    part, prefix = _part(model)
    named = ((name, weight) for name, weight in model.named_parameters() if not name.startswith("visual."))
    constants = {f"model.{name}": weight.detach() for name, weight in named}
    length = tokens.shape[1]
    if length < part.context_length:
        constants[f"model.{prefix}positional_embedding"] = part.positional_embedding.detach()[:length]
        constants[f"model.{prefix}attn_mask"] = part.attn_mask[:length, :length]
    with given_embeddings(token_embedding(model), embeddings):
        encoded: Tensor = torch.func.functional_call(_TextPass(model), constants, (tokens,))
    return encoded


class _TextPass(nn.Module):
    """The text tower as a module with a forward, which is what `functional_call` calls."""

    def __init__(self, model: VisionLanguageModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> Tensor:
        encoded: Tensor = self.model.encode_text(tokens, normalize=False)
        return encoded


def _part(model: VisionLanguageModel) -> tuple[VisionLanguageModel, str]:
    """Return what holds positions and mask of the text tower, and how its parameters' names begin."""
    token_embedding(model)  # refuses towers that are not open_clip's own
    return (model, "") if isinstance(model, CLIP) else (model.text, "text.")
