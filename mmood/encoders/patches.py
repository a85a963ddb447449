"""Patch embeddings: what an image tower makes of each position of an image, in the joint space of its embeddings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

Patches = Literal["value", "tokens"]
"""Which patch embeddings: `value` the value path of the last block, `tokens` its plain output."""

PATCHES: tuple[Patches, ...] = ("value", "tokens")

_ROWS = 2**15
"""Tokens at a time: CUDA's attention takes fewer than 2^16 sequences."""


def one_by_one(
    pool: Callable[[Tensor], Tensor], tokens: Float[Tensor, "batch tokens width"]
) -> Float[Tensor, "batch tokens features"]:
    """Return what a pool, or another layer, makes of each token as the only one.

    With one key the softmax of an attention pool is 1, so what remains of it is the value, the output projection and
    the MLP. No paper defines patches of towers with such a pool; this reading of them is ours.

    Args:
        pool: maps (rows, 1, width) to (rows, features).
        tokens: what it would read together.
    """
    rows = tokens.flatten(0, 1).unsqueeze(1)
    # The number of rows of an exported graph is not known: it cannot be split.
    parts = [rows] if torch.compiler.is_exporting() else torch.split(rows, _ROWS)
    return torch.cat([pool(part) for part in parts]).reshape(*tokens.shape[:2], -1)


def value_path(block: nn.Module, tokens: Float[Tensor, "batch tokens width"]) -> Float[Tensor, "batch tokens width"]:
    """Return what a transformer block makes of each token as the only one.

    This is the value path of MaskCLIP (arXiv 2112.01071), which GL-MCM and LoCoOp use: the softmax over one key is
    exactly 1, so attention is the value projection followed by the output projection. The block itself is run, so its
    norms, biases, scales and MLP count as they are. It is the same as a mask that is minus infinity off the diagonal.
    """
    return one_by_one(lambda rows: block(rows)[:, 0], tokens)
