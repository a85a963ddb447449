"""Text towers of open_clip: passes over no more tokens than decide, and passes that start from given embeddings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int
from open_clip import CLIP
from open_clip.transformer import TextTransformer
from torch import Tensor, nn

from mmood.encoders.shared_beginnings import Begin, Beginnings, Begun, End, Endings, can_share, common_beginnings
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
            f"Encoding text from token embeddings needs one of open_clip's own text towers, but this model has a "
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
                f"Token embeddings have the shape {tuple(embeddings.shape)}, but the tokens need {tuple(found.shape)}."
            )
        return embeddings

    handle = layer.register_forward_hook(answer)
    try:
        yield
    finally:
        handle.remove()


def deciding_tokens(model: VisionLanguageModel, tokens: Int[Tensor, "texts length"]) -> Int[Tensor, " texts"]:
    """Return how many leading tokens decide the embedding of each text: all, or those up to its end.

    Behind the end of a text stands padding, which a causal tower that pools at the end never looks at.
    """
    part, _ = _part(model)
    if not _looks_no_further_than_the_end(part):
        return torch.full((len(tokens),), tokens.shape[1], device=tokens.device)
    if isinstance(part, CLIP):
        pool, end = part.text_pool_type, part.text_eos_id
    else:
        pool, end = part.pool_type, part.eos_id
    return 1 + (tokens.argmax(dim=-1) if pool == "argmax" else (tokens == end).int().argmax(dim=-1))


def cut(model: VisionLanguageModel, tokens: Int[Tensor, "texts length"]) -> Int[Tensor, "texts shorter"]:
    """Return the tokens without those columns that decide no embedding."""
    return tokens[:, : int(deciding_tokens(model, tokens).max())] if len(tokens) else tokens


def shared(
    model: VisionLanguageModel, tokens: Int[Tensor, "texts length"], lengths: Int[Tensor, " texts"]
) -> Beginnings | None:
    """Return which beginnings texts on the CPU share, or None where each text has to pass as a whole.

    Args:
        model: whose text tower they are for.
        tokens: of texts that may be cut.
        lengths: the deciding tokens of each.
    """
    return common_beginnings(tokens, int(lengths.min()) - 1) if _shares(model) else None


def encode_tokens(
    model: VisionLanguageModel, tokens: Int[Tensor, "texts length"], beginnings: Beginnings | None = None
) -> Float[Tensor, "texts dim"]:
    """Return the projected embeddings of texts, with gradient to the tower; the texts may be cut (see `cut`).

    Beginnings that the texts share (see `shared`) pass the tower once.
    """
    if beginnings is None:
        return _encode_with(model, _short(model, tokens.shape[1]), tokens)
    part, _ = _part(model)
    length, embed = beginnings.length, token_embedding(model)
    begun = Begin(part)(embed(tokens[beginnings.first, :length]))
    last = deciding_tokens(model, tokens) - 1 - length
    encoded: Tensor = End(part)(begun, Endings(beginnings.number, embed(tokens[:, length:]), last))
    return encoded


def encode_frozen(
    model: VisionLanguageModel,
    embeddings: Float[Tensor, "texts length width"],
    tokens: Int[Tensor, "texts length"],
) -> Float[Tensor, "texts dim"]:
    """Return the projected embeddings of texts given by token embeddings, with gradient to these and to no weight.

    The weights enter as constants, whatever they are to others: nothing is kept for their gradients. The texts may be
    cut.
    """
    weights = _constants(model) | {name: tensor.detach() for name, tensor in _short(model, tokens.shape[1]).items()}
    with given_embeddings(token_embedding(model), embeddings):
        return _encode_with(model, weights, tokens)


def encode_frozen_endings(
    model: VisionLanguageModel,
    beginnings: Float[Tensor, "beginnings before width"],
    beginning: Int[Tensor, " texts"],
    endings: Float[Tensor, "texts after width"],
    tokens: Int[Tensor, "texts length"],
) -> Float[Tensor, "texts dim"]:
    """Return the projected embeddings of texts, each of one of the beginnings and an ending, as `encode_frozen` does.

    Where the tower allows it, the common beginnings pass it once and not once for each text. No text may end within its
    beginning.
    """
    begun = begin_frozen(model, beginnings) if len(beginnings) < len(endings) else None
    if begun is None:
        return encode_frozen(model, torch.cat([beginnings[beginning], endings], dim=1), tokens)
    last = deciding_tokens(model, tokens) - 1 - beginnings.shape[1]
    return end_frozen(model, begun, Endings(beginning, endings, last))


def begin_frozen(
    model: VisionLanguageModel,
    beginnings: Float[Tensor, "beginnings before width"],
    lengths: Int[Tensor, " beginnings"] | None = None,
) -> Begun | None:
    """Return what the text tower, its weights constant, makes of beginnings given by token embeddings.

    None where each text has to pass as a whole. `lengths` are those of padded beginnings.
    """
    if not _shares(model):
        return None
    part, _ = _part(model)
    begun: Begun = torch.func.functional_call(Begin(part), _constants(part, "part."), (beginnings, lengths))
    return begun


def end_frozen(model: VisionLanguageModel, begun: Begun, endings: Endings) -> Float[Tensor, "texts dim"]:
    """Return the projected embeddings of texts that begin as `begin_frozen` has it."""
    part, _ = _part(model)
    encoded: Tensor = torch.func.functional_call(End(part), _constants(part, "part."), (begun, endings))
    return encoded


class _TextPass(nn.Module):
    """The text tower as a module with a forward, which is what `functional_call` calls."""

    def __init__(self, model: VisionLanguageModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> Tensor:
        encoded: Tensor = self.model.encode_text(tokens, normalize=False)
        return encoded


def _constants(part: nn.Module, prefix: str = "") -> dict[str, Tensor]:
    """Return the weights that would take a gradient as constants, by name; those of the image tower are not used."""
    named = part.named_parameters()
    return {prefix + name: one.detach() for name, one in named if one.requires_grad and not name.startswith("visual.")}


def _encode_with(model: VisionLanguageModel, instead: Mapping[str, Tensor], tokens: Tensor) -> Tensor:
    """Return the embeddings of texts under other tensors in the place of the model's own."""
    named = {f"model.{name}": tensor for name, tensor in instead.items()}
    encoded: Tensor = torch.func.functional_call(_TextPass(model), named, (tokens,))
    return encoded


def _short(model: VisionLanguageModel, length: int) -> dict[str, Tensor]:
    """Return positions and mask for texts of a length, by their names in the model; none where its own will do."""
    part, prefix = _part(model)
    if not _looks_no_further_than_the_end(part) or length >= part.context_length:
        return {}
    positions, mask = part.positional_embedding[:length], part.attn_mask[:length, :length]
    return {f"{prefix}positional_embedding": positions, f"{prefix}attn_mask": mask}


def _shares(model: VisionLanguageModel) -> bool:
    """Return whether the text tower can take a beginning once for all texts that have it."""
    part, _ = _part(model)
    return _looks_no_further_than_the_end(part) and can_share(part)


def _looks_no_further_than_the_end(part: Any) -> bool:
    """Return whether a part is a causal text tower that pools at the end of a text; None is none of open_clip's own."""
    if part is None or part.attn_mask is None:
        return False
    if isinstance(part, CLIP):
        return part.text_pool_type in ("argmax", "eos")
    # A class token is appended behind the padding.
    return part.cls_emb is None and part.pool_type in ("argmax", "eos")


def _part(model: VisionLanguageModel) -> tuple[Any, str]:
    """Return the module with positions and mask of the text tower, and the prefix of its parameter names.

    None for a tower that is not open_clip's own.
    """
    if isinstance(model, CLIP):
        return model, ""
    return (model.text if isinstance(model.text, TextTransformer) else None), "text."
