"""From words to embeddings: prompt templates around an encoder of texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from mmood.encoders.prompts import fill

EncodeText = Callable[[Sequence[str]], Float[Tensor, "texts dim"]]
"""Maps whole texts to unit-norm float32 embeddings."""


@torch.no_grad()
def embed_words(
    encode_text: EncodeText, words: Sequence[str], templates: Sequence[str], batch: int = 1024
) -> Float[Tensor, "words dim"]:
    """Return one unit-norm embedding per word: the mean of its prompts' unit-norm embeddings, normalised.

    (CSP's code averages before normalising. The two differ only by the spread of the norms that one word's prompts
    have in the text tower, and not at all with one template.)

    >>> flip = lambda texts: torch.tensor([[1.0, 0.0] if text.startswith("a") else [0.0, 1.0] for text in texts])
    >>> embed_words(flip, ["sea"], ["a {}", "the {}"])
    tensor([[0.7071, 0.7071]])
    """
    step = max(1, batch // len(templates))
    blocks = []
    for start in range(0, len(words), step):
        part = words[start : start + step]
        texts = encode_text([fill(template, word) for word in part for template in templates])
        blocks.append(normalize(texts.view(len(part), len(templates), -1).mean(dim=1), dim=-1))
    return torch.cat(blocks)
