"""Texts that begin alike: what a causal text tower makes of their common beginning is computed once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Beginnings:
    """How T texts go with S beginnings of P tokens.

    Attributes:
        length: P.
        first: (S,) a text with each beginning.
        number: (T,) the beginning of each text.
    """

    length: int
    first: Int[Tensor, " beginnings"]
    number: Int[Tensor, " texts"]

    def to(self, device: torch.device) -> Beginnings:
        """Return the numbers on a device."""
        return Beginnings(self.length, self.first.to(device), self.number.to(device))


def common_beginnings(tokens: Int[Tensor, "texts length"], most: int) -> Beginnings | None:
    """Return the beginnings of at most `most` tokens with which the fewest tokens pass a tower; None if none help.

    >>> common_beginnings(torch.tensor([[1, 2, 3, 4], [1, 2, 5, 6], [1, 2, 7, 8]]), 3).length
    2
    """
    rows = tokens.numpy()
    texts, length = rows.shape
    number, fewest, found = np.zeros(texts, np.int64), texts * length, None
    for column in range(min(most, length - 1)):
        _, first, number = np.unique(
            number * (rows.max() + 1) + rows[:, column], return_index=True, return_inverse=True
        )
        passed = len(first) * (column + 1) + texts * (length - column - 1)
        if passed < fewest:
            fewest, found = passed, Beginnings(column + 1, torch.from_numpy(first), torch.from_numpy(number))
    return found


def can_share(part: Any) -> bool:
    """Return whether every block of a causal text tower is open_clip's plain one, whose attention is known here."""
    blocks = part.transformer.resblocks
    return all(type(block) is ResidualAttentionBlock and type(block.attn) is nn.MultiheadAttention for block in blocks)


class SharedBeginnings(nn.Module):
    """A causal text tower over texts of which many share a beginning.

    A token of a causal tower sees those before it only, so the states of a beginning are the same in every text that
    has it: keys and values of S beginnings serve T texts. The result is that of the whole texts, up to rounding; the
    work falls from T (P + L) to S P + T L tokens.

    Args:
        part: the tower, with positions, blocks and the last norm.
    """

    def __init__(self, part: Any) -> None:
        super().__init__()
        self.part = part

    def forward(
        self,
        beginnings: Float[Tensor, "beginnings before width"],
        endings: Float[Tensor, "texts after width"],
        beginning: Int[Tensor, " texts"],
        last: Int[Tensor, " texts"],
    ) -> Float[Tensor, "texts dim"]:
        """Return the projected embeddings of texts.

        Args:
            beginnings: the token embeddings of each.
            endings: the token embeddings of what follows in each text.
            beginning: the number of the beginning of each text.
            last: the position in the ending where the text is read.
        """
        before, after = beginnings.shape[1], endings.shape[1]
        positions = self.part.positional_embedding[: before + after]
        shared, own = beginnings + positions[:before], endings + positions[before:]
        seen = torch.ones(after, before + after, dtype=torch.bool, device=own.device).tril(diagonal=before)
        for block in self.part.transformer.resblocks:
            queries, keys, values = _heads(block, shared)
            more_queries, more_keys, more_values = _heads(block, own)
            all_keys = torch.cat([keys[beginning], more_keys], dim=2)
            all_values = torch.cat([values[beginning], more_values], dim=2)
            attended = functional.scaled_dot_product_attention(queries, keys, values, is_causal=True)
            shared = _rest(block, shared, attended)
            own = _rest(
                block,
                own,
                functional.scaled_dot_product_attention(more_queries, all_keys, all_values, attn_mask=seen),
            )
        rows = torch.arange(len(own), device=own.device)
        ends: Tensor = self.part.ln_final(own[rows, last])
        projection = self.part.text_projection
        if projection is None:
            return ends
        projected: Tensor = projection(ends) if isinstance(projection, nn.Linear) else ends @ projection
        return projected


def _heads(block: Any, tokens: Float[Tensor, "texts tokens width"]) -> tuple[Tensor, ...]:
    """Return queries, keys and values of tokens, each (texts, heads, tokens, width of a head)."""
    attention = block.attn
    found = functional.linear(block.ln_1(tokens), attention.in_proj_weight, attention.in_proj_bias)
    texts, count, _ = found.shape
    return found.reshape(texts, count, 3, attention.num_heads, -1).permute(2, 0, 3, 1, 4).unbind(0)


def _rest(block: Any, tokens: Tensor, attended: Tensor) -> Tensor:
    """Return what a block makes of tokens, given what their heads attended to."""
    tokens = tokens + block.ls_1(block.attn.out_proj(attended.transpose(1, 2).flatten(2)))
    passed: Tensor = tokens + block.ls_2(block.mlp(block.ln_2(tokens)))
    return passed
