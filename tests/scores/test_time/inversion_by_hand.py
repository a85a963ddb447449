"""Textual inversion, slow and literal: the text tower from its parts, AdamW from its formulas, one image at a time."""

from __future__ import annotations

from collections.abc import Callable

import open_clip
import torch
from open_clip import CLIP
from torch import Tensor
from torch.nn.functional import normalize

from mmood.scores.base import Reference

tokenizer = open_clip.tokenizer.SimpleTokenizer(context_length=16)


def text_by_hand(model: CLIP, text: str, place: int, token: Tensor) -> Tensor:
    """Embed a text with `token` in one place, at full length, with the parts of open_clip's CLIP."""
    ids = tokenizer([text])
    embeddings = model.token_embedding(ids).detach()
    embeddings = torch.cat([embeddings[:, :place], token.view(1, 1, -1), embeddings[:, place + 1 :]], dim=1)
    hidden = model.transformer(embeddings + model.positional_embedding, attn_mask=model.attn_mask)
    end = model.ln_final(hidden)[0, int(ids.argmax())]
    return normalize(end @ model.text_projection, dim=0)


def adamw_by_hand(
    token: Tensor, gradient_of: Callable[[Tensor, int], Tensor], steps: int, lr: float = 0.2, decay: float = 0.01
) -> Tensor:
    """Return a token after steps of AdamW, whose gradients `gradient_of` gives."""
    first, second = torch.zeros_like(token), torch.zeros_like(token)
    for t in range(1, steps + 1):
        gradient = gradient_of(token, t - 1)
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        token = token - lr * decay * token
        token = token - lr * (first / (1 - 0.9**t)) / ((second / (1 - 0.999**t)).sqrt() + 1e-8)
    return token


def proxies_by_hand(reference: Reference, shots: int = 16) -> list[Tensor]:
    """Return the normalised mean of the images of each class."""
    bank = reference.bank(shots)
    assert bank.embedding is not None
    proxies = []
    for c in range(len(reference.class_names)):
        rows = [row for row, label in zip(bank.embedding, bank.labels, strict=True) if label == c]
        proxies.append(normalize(sum(row / row.norm() for row in rows) / len(rows), dim=0))
    return proxies


def gaps(names: Tensor, proxies: list[Tensor], text: Tensor) -> list[float]:
    """Return b_c - cos(e, p_c) for every class."""
    return [float(t @ p - text @ p) for t, p in zip(names, proxies, strict=True)]
