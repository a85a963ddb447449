"""From words to embeddings: prompt templates around an encoder of texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from jaxtyping import Float
from lightning.fabric.utilities.rank_zero import rank_zero_only
from rich.progress import track
from torch import Tensor
from torch.nn.functional import normalize

from mmood.encoders.prompts import fill
from mmood.output.console import console

# From this many prompts on, encoding shows how far it is.
LONG = 5000


class EncodeText(Protocol):
    """Maps whole texts to float32 embeddings, of unit norm unless `normalise` is off."""

    def __call__(self, texts: Sequence[str], normalise: bool = True) -> Float[Tensor, "texts dim"]:
        """Return the embeddings."""


@torch.no_grad()
def embed_words(
    encode_text: EncodeText,
    words: Sequence[str],
    templates: Sequence[str],
    normalise_first: bool = True,
    batch: int = 1024,
) -> Float[Tensor, "words dim"]:
    """Return one unit-norm embedding per word: the mean of its prompts' embeddings, normalised.

    Args:
        encode_text: the text tower.
        words: what `{}` stands for.
        templates: the prompts of each word.
        normalise_first: average unit-norm embeddings; off, they are averaged as they are (CSP).
        batch: number of prompts that are encoded together.

    >>> def flip(texts, normalise=True):
    ...     return torch.tensor([[1.0, 0.0] if text.startswith("a") else [0.0, 1.0] for text in texts])
    >>> embed_words(flip, ["sea"], ["a {}", "the {}"])
    tensor([[0.7071, 0.7071]])
    """
    step = max(1, batch // len(templates))
    blocks = []
    title = f"encoding {len(words)} words x {len(templates)} prompts"
    silent = getattr(rank_zero_only, "rank", 0) != 0 or len(words) * len(templates) < LONG
    for start in track(range(0, len(words), step), title, console=console(stderr=True), disable=silent):
        part = words[start : start + step]
        prompts = [fill(template, word) for word in part for template in templates]
        texts = encode_text(prompts) if normalise_first else encode_text(prompts, normalise=False)
        blocks.append(normalize(texts.view(len(part), len(templates), -1).mean(dim=1), dim=-1))
    return torch.cat(blocks)
