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
"""Tokens that a pool gets at a time: CUDA's attention takes fewer than 2^16 sequences."""


def value_path(block: nn.Module, tokens: Float[Tensor, "batch tokens width"]) -> Float[Tensor, "batch tokens width"]:
    """Return what a transformer block makes of tokens of which each attends to itself alone.

    This is the value path of MaskCLIP (arXiv 2112.01071), which GL-MCM and LoCoOp use: under a mask that is minus
    infinity off the diagonal the softmax is exactly 1 on it, so attention is the value projection followed by the
    output projection. The block itself is run, so its norms, biases, scales and MLP count as they are.

    Args:
        block: one with attention over keys that takes an additive `attn_mask`, as all of open_clip and timm do.
        tokens: its input.
    """
    itself = torch.eye(tokens.shape[1], dtype=torch.bool, device=tokens.device)
    mask = torch.full(itself.shape, -torch.inf, dtype=tokens.dtype, device=tokens.device).masked_fill(itself, 0)
    mixed: Tensor = block(tokens, attn_mask=mask)
    return mixed


def one_by_one(
    pool: Callable[[Tensor], Tensor], tokens: Float[Tensor, "batch tokens width"]
) -> Float[Tensor, "batch tokens features"]:
    """Return what a pool makes of each token as the only one.

    With one key the softmax of an attention pool is 1, so what remains is the value, the output projection and the
    pool's MLP. No paper defines patches of such towers; this reading of them is ours.

    Args:
        pool: maps (rows, 1, width) to (rows, features).
        tokens: what it would pool.
    """
    rows = tokens.flatten(0, 1).unsqueeze(1)
    # The number of rows of an exported graph is not known: it cannot be split.
    parts = [rows] if torch.compiler.is_exporting() else torch.split(rows, _ROWS)
    return torch.cat([pool(part) for part in parts]).reshape(*tokens.shape[:2], -1)
