"""CoEvo as pure functions: scores of texts and images mixed, a threshold from past scores, words to take in."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor

Scores = Float[Tensor, " batch"]


def mixed_log_odds(texts: tuple[Scores, Scores], images: tuple[Scores, Scores], weight: float) -> Scores:
    """Return the log-odds of w S_T + (1 - w) S_V, given log S and log(1 - S) of both (CoEvo, arXiv 2601.08476).

    Args:
        texts: of S_T, the score against texts.
        images: of S_V, the score against texts that images have moved.
        weight: w in [0, 1].

    >>> even, sure = (torch.tensor([0.5]).log(),) * 2, (torch.tensor([0.9]).log(), torch.tensor([0.1]).log())
    >>> mixed_log_odds(even, sure, 0.25).sigmoid()
    tensor([0.8000])
    """
    if weight in (0, 1):
        accept, reject = texts if weight == 1 else images
        return accept - reject
    parts = zip(texts, images, strict=True)
    accept, reject = (torch.logaddexp(t + math.log(weight), v + math.log1p(-weight)) for t, v in parts)
    return accept - reject


def words_to_add(
    ood: Float[Tensor, "ood words"],
    id_: Float[Tensor, "id words"],
    known: Int64[Tensor, " known"],
    near: int,
    far: int,
) -> Int64[Tensor, " added"]:
    """Return which words become negatives: the `near` nearest of each OoD image, the `far` farthest of each ID image.

    Each word comes once, in the order of OoD images, then ID images, each from its best word on; words that are known
    already are left out and not replaced by others.

    Args:
        ood: cosines of confident OoD images with all words.
        id_: cosines of confident ID images with all words.
        known: the words that are negatives already.
        near: words an OoD image brings.
        far: words an ID image brings.

    >>> cosines = torch.tensor([[0.1, 0.9, 0.5]])
    >>> words_to_add(cosines, cosines, torch.tensor([2]), near=2, far=1)
    tensor([1, 0])
    """
    words = ood.shape[1]
    nearest = ood.topk(min(near, words), dim=-1).indices
    farthest = id_.topk(min(far, words), dim=-1, largest=False).indices
    wanted = torch.cat([nearest.flatten(), farthest.flatten()])
    fresh = wanted[~torch.isin(wanted, known)]
    return torch.tensor(list(dict.fromkeys(fresh.tolist())), dtype=torch.int64, device=known.device)
