"""Text towers of open_clip: where the token embeddings live, and a pass that starts from given ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

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
