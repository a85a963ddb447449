"""Texts that begin alike: what a causal text tower makes of their common beginning is computed once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
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


@dataclass(frozen=True)
class Begun:
    """What a causal text tower makes of S beginnings of up to P tokens.

    A token of such a tower sees only those before it, so the states of a beginning are the same in every text that has
    it. T texts then cost it S P + T L tokens instead of T (P + L).

    Attributes:
        keys: (B, S, heads, P, width of a head) of the B blocks.
        values: likewise.
        lengths: (S,) tokens of each beginning, behind which there is padding; None if all have P.
    """

    keys: Float[Tensor, "blocks beginnings heads before width"]
    values: Float[Tensor, "blocks beginnings heads before width"]
    lengths: Int[Tensor, " beginnings"] | None

    def to(self, device: torch.device) -> Begun:
        """Return the states on a device."""
        lengths = None if self.lengths is None else self.lengths.to(device)
        return Begun(self.keys.to(device), self.values.to(device), lengths)


@dataclass(frozen=True)
class Endings:
    """What follows the beginnings in T texts.

    Attributes:
        number: (T,) of each text's beginning.
        embeddings: (T, L, W) token embeddings.
        last: (T,) the position in each ending at which the tower reads a text.
    """

    number: Int[Tensor, " texts"]
    embeddings: Float[Tensor, "texts after width"]
    last: Int[Tensor, " texts"]


def can_share(part: Any) -> bool:
    """Return whether every block of a causal text tower is open_clip's plain one, whose attention is known here."""
    blocks = part.transformer.resblocks
    return all(type(block) is ResidualAttentionBlock and type(block.attn) is nn.MultiheadAttention for block in blocks)


@final
class Begin(nn.Module):
    """The first half of a pass: the beginnings.

    Args:
        part: the tower, with positions and blocks.
    """

    def __init__(self, part: Any) -> None:
        super().__init__()
        self.part = part

    def forward(
        self,
        beginnings: Float[Tensor, "beginnings before width"],
        lengths: Int[Tensor, " beginnings"] | None = None,
    ) -> Begun:
        """Return the states of beginnings given by token embeddings; `lengths` as `Begun` has them."""
        states = beginnings + self.part.positional_embedding[: beginnings.shape[1]]
        all_keys, all_values = [], []
        for block in self.part.transformer.resblocks:
            queries, keys, values = _heads(block, states)
            all_keys.append(keys)
            all_values.append(values)
            states = _rest(
                block, states, functional.scaled_dot_product_attention(queries, keys, values, is_causal=True)
            )
        return Begun(torch.stack(all_keys), torch.stack(all_values), lengths)


@final
class End(nn.Module):
    """The second half of a pass: what follows the beginnings.

    Args:
        part: the tower, with positions, blocks, the last norm and the projection.
    """

    def __init__(self, part: Any) -> None:
        super().__init__()
        self.part = part

    def forward(self, begun: Begun, endings: Endings) -> Float[Tensor, "texts dim"]:
        """Return the projected embeddings of texts, those of the whole texts up to rounding."""
        number = endings.number
        positions, seen = _around(begun, number, endings.embeddings.shape[1])
        table = self.part.positional_embedding
        # Padding behind a short ending may have positions that the tower has not.
        states = endings.embeddings + table[positions.clamp_max(len(table) - 1)]
        for block, keys, values in zip(self.part.transformer.resblocks, begun.keys, begun.values, strict=True):
            queries, own_keys, own_values = _heads(block, states)
            all_keys = torch.cat([keys[number], own_keys], dim=2)
            all_values = torch.cat([values[number], own_values], dim=2)
            attended = functional.scaled_dot_product_attention(queries, all_keys, all_values, attn_mask=seen)
            states = _rest(block, states, attended)
        ends: Tensor = self.part.ln_final(states[torch.arange(len(states), device=states.device), endings.last])
        projection = self.part.text_projection
        if projection is None:
            return ends
        projected: Tensor = projection(ends) if isinstance(projection, nn.Linear) else ends @ projection
        return projected


def _around(begun: Begun, number: Tensor, after: int) -> tuple[Tensor, Bool[Tensor, "*texts after all"]]:
    """Return the positions of the tokens of endings, and which tokens of beginning and ending each of them sees."""
    before, device = begun.keys.shape[3], number.device
    own = torch.ones(after, before + after, dtype=torch.bool, device=device).tril(diagonal=before)
    if begun.lengths is None:
        return torch.arange(before, before + after, device=device), own
    length = begun.lengths[number].unsqueeze(1)
    places = torch.arange(before + after, device=device)
    seen = own & ((places < length) | (places >= before)).unsqueeze(1)
    return length + torch.arange(after, device=device), seen.unsqueeze(1)


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
