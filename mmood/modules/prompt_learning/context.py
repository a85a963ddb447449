"""Learned context vectors around class names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mmood.encoders.vision_language import VisionLanguageEncoder
from mmood.errors import MmoodError
from mmood.modules.fine_tuning.gradient_cache import in_chunks
from mmood.prompts import PromptFamily, PromptTokens, encode_prompts, phrase_embeddings
from mmood.prompts.family import Layout
from mmood.settings import check_count
from mmood.shards.hashes import digest

INITIAL_STD = 0.02
"""Standard deviation of a new vector, that of CLIP's own token embeddings before training."""


@dataclass(frozen=True)
class ContextSettings:
    """The learned vectors before a class name.

    Attributes:
        tokens: M, vectors of a context.
        start: a phrase such as `a photo of a`, whose token embeddings the first vectors begin with; the others, or with
            None all, begin as N(0, 0.02^2).
        class_specific: a context of its own for each class instead of one for all.
    """

    tokens: int = 16
    start: str | None = None
    class_specific: bool = False

    def __post_init__(self) -> None:
        check_count("`model.method.context.tokens`", self.tokens)

    def layout(self, suffix: str = ".") -> Layout:
        """Return the layout of a context, or one for each class, before class names."""
        return Layout("own" if self.class_specific else "every", suffix)

    def contexts(self, classes: int) -> int:
        """Return the number of contexts for the ID classes."""
        return classes if self.class_specific else 1


class LearnedContext(nn.Module):
    """S contexts of M vectors each, in float32, and the texts that they make.

    Args:
        encoder: the tower that they are for.
        names: the ID classes.
        settings: M and the start.
        layout: which texts they make.
        contexts: S.
        seed: numbers that seed the start.

    Raises:
        MmoodError: the context does not fit into the text tower, or leaves too little room to tell the names apart.
    """

    def __init__(
        self,
        encoder: VisionLanguageEncoder,
        names: Sequence[str],
        settings: ContextSettings,
        layout: Layout,
        contexts: int,
        seed: Sequence[int],
    ) -> None:
        super().__init__()
        self.layout = layout
        self._tokens = layout.tokens(encoder, names, contexts, settings.tokens)
        _check_told_apart(encoder, layout.names(names, contexts), layout.suffix, self._tokens.ids)
        width = self._tokens.embeddings.shape[-1]
        generator = torch.Generator().manual_seed(digest(*seed) % 2**63)
        vectors = INITIAL_STD * torch.randn(contexts, settings.tokens, width, generator=generator)
        if settings.start is not None:
            phrase = phrase_embeddings(encoder, settings.start)
            if len(phrase) > settings.tokens:
                raise MmoodError(
                    f"`model.method.context.start` has {len(phrase)} tokens, but the context has {settings.tokens}; "
                    "raise the tokens of the context."
                )
            vectors[:, : len(phrase)] = phrase.cpu()
        self.vectors = nn.Parameter(vectors)

    def encode(
        self, encoder: VisionLanguageEncoder, chunk: int | None, shift: Float[Tensor, " width"] | None = None
    ) -> Float[Tensor, "texts dim"]:
        """Return the unit-norm embeddings of the T texts, with gradient to the vectors.

        Args:
            encoder: the tower.
            chunk: texts whose activations are held at a time, with the same gradient; None for all.
            shift: is added to every vector.
        """
        tokens = self._on(self.vectors.device)
        vectors = self.vectors if shift is None else self.vectors + shift
        number = self.layout.contexts(len(tokens.ids), len(vectors)).to(vectors.device)

        def encode(rows: Tensor) -> Tensor:
            return encode_prompts(encoder, tokens, vectors, number[rows], rows)

        return in_chunks(encode, torch.arange(len(tokens.ids), device=vectors.device), chunk, frozen=True)

    def family(self) -> PromptFamily:
        """Return the contexts as they are now."""
        return PromptFamily(self.vectors.detach().float().cpu().clone(), self.layout)

    def _on(self, device: torch.device) -> PromptTokens:
        """Return the tokens on a device; they are no buffers, for DDP shall not send them around."""
        if self._tokens.ids.device != device:
            self._tokens = self._tokens.to(device)
        return self._tokens


def _check_told_apart(encoder: VisionLanguageEncoder, names: Sequence[str], suffix: str, ids: Tensor) -> None:
    """Raise MmoodError if names that differ by themselves are one text behind the context, which cuts their ends."""
    bare = encoder.tokenize([name.replace("_", " ") + suffix for name in names])
    first: dict[tuple[int, ...], int] = {}
    for place, row in enumerate(ids.tolist()):
        other = first.setdefault(tuple(row), place)
        if not torch.equal(bare[place], bare[other]):
            raise MmoodError(
                f"Behind the context '{names[other]:.80}' and '{names[place]:.80}' lose their ends and are the same "
                f"text to '{encoder.settings.name}'; lower `model.method.context.tokens`."
            )
