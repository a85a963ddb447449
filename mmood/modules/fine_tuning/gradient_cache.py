"""A large contrastive batch in the memory of a small one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint, set_checkpoint_early_stop


def in_chunks(encode: Callable[[Tensor], Tensor], inputs: Tensor, chunk: int | None, frozen: bool = False) -> Tensor:
    """Return `encode(inputs)`, holding the activations of only `chunk` inputs at a time; None for all at once.

    Gradient caching (arXiv 2101.06983): encode every chunk and keep only the embeddings, then, once the loss has sent
    its gradient to them, encode chunk after chunk again and go back through it. As one checkpoint per chunk, a step
    stays one backward pass: precision, gradient clipping and the single exchange of gradients under DDP work as ever.
    Exact if `encode` treats every input by itself (no BatchNorm in training); costs a second forward pass.

    `frozen` is for a tower in eval mode, where nothing is drawn and nothing else is in chunks. The last chunk is then
    not encoded twice: the backward pass begins with it, so its activations are gone before those of another chunk are
    made again. And no state of generators is kept, for which a GPU would have to be waited for.

    >>> in_chunks(lambda rows: 2 * rows, torch.arange(5.0), 2).tolist()
    [0.0, 2.0, 4.0, 6.0, 8.0]
    """
    if chunk is None or len(inputs) <= chunk:
        return encode(inputs)
    *parts, last = torch.split(inputs, chunk)
    twice = partial(_recomputed, encode, not frozen)
    return torch.cat([*(twice(part) for part in parts), encode(last) if frozen else twice(last)])


def _recomputed(encode: Callable[[Tensor], Tensor], draws: bool, part: Tensor) -> Tensor:
    # A second pass that stops early, behind the last tensor that is needed, would leave FSDP's hooks in the middle.
    with set_checkpoint_early_stop(False):
        result: Tensor = checkpoint(encode, part, use_reentrant=False, preserve_rng_state=draws)
    return result
