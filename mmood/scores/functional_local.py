"""Scores on local features: what single patches of an image say, as pure functions."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from mmood.scores.stable import precise

CELLS = 2**21
"""Similarities of patches with classes that are in memory at a time: 8 MiB, which a processor's cache may hold."""


def patch_log_odds(
    patches: Float[Tensor, "batch patches dim"], prototypes: Float[Tensor, "classes dim"], temperature: float = 1.0
) -> Float[Tensor, "batch patches"]:
    """Return the log-odds of p_r = max_c softmax_c(cos(v_r, t_c) / T) of each patch v_r (arXiv 2304.04521).

    Computed chunk by chunk: the (B, P, C) similarities are never in memory as a whole. 1 - p is summed over the other
    classes, so that nothing saturates; with one class p is 1 and the result is +inf. The products and exponentials are
    float32, their logarithms float64.

    Args:
        patches: (B, P, D) of unit norm.
        prototypes: (C, D) text prototypes of unit norm.
        temperature: divides the cosine.

    >>> patch_log_odds(torch.tensor([[[1.0, 0.0]]]), torch.tensor([[0.0, 1.0], [0.0, -1.0]]))
    tensor([[0.]], dtype=torch.float64)
    """
    rows = patches.flatten(0, 1)
    classes = (prototypes / temperature).T
    # The number of rows of an exported graph is not known: it cannot be split.
    exporting = torch.compiler.is_exporting()
    chunks = [rows] if exporting else torch.split(rows, max(1, CELLS // classes.shape[1]))
    return torch.cat([_largest_log_odds(chunk @ classes) for chunk in chunks]).reshape(patches.shape[:2])


def _largest_log_odds(logits: Float[Tensor, "rows classes"]) -> Float[Tensor, " rows"]:
    """Return the log-odds of the largest softmax probability of each row, whose memory is used up."""
    largest, where = logits.max(dim=1, keepdim=True)
    # A constant that cancels. With one class there is no second, and the sum is 0.
    second = logits.scatter_(1, where, -torch.inf).detach().amax(dim=1, keepdim=True)
    second = second.clamp_min(torch.finfo(logits.dtype).min)
    others = logits.sub_(second).exp_().sum(dim=1)
    return precise(largest - second).squeeze(1) - precise(others).log()
