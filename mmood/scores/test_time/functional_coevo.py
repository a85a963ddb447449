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


def least_variance_threshold(scores: Float[Tensor, " scores"], steps: int = 100) -> float:
    """Return the threshold in [0, 1] that splits scores into the two groups of the least variance (Otsu's criterion).

    The thresholds 0, 1/steps, ..., 1 are tried; scores below one are its lower group. The criterion is the sum of both
    groups' variances, each times its share of the scores. Of thresholds that split alike, the middle is taken: of no
    scores, or of scores that are all in one place, that is the middle of a range and no judgement.

    Args:
        scores: in [0, 1].
        steps: spaces of the grid.

    >>> round(least_variance_threshold(torch.tensor([0.1, 0.1, 0.7, 0.9])), 3)
    0.4
    """
    # The CPU, as Apple's GPUs have no float64: with float32 sums equal splits would not tie.
    ordered = scores.detach().cpu().double().sort().values
    grid = torch.arange(steps + 1, dtype=torch.float64) / steps
    below = torch.searchsorted(ordered, grid)
    sums, squares = (torch.cat([torch.zeros(1), part.cumsum(0)]).double() for part in (ordered, ordered.square()))
    count = torch.stack([below, len(ordered) - below])
    total = torch.stack([sums[below], sums[-1] - sums[below]])
    squared = torch.stack([squares[below], squares[-1] - squares[below]])
    # n times the variance is sum x^2 - (sum x)^2 / n; an empty group has none.
    spread = (squared - total.square() / count.clamp_min(1)).sum(dim=0)
    best = grid[spread <= spread.min() + 1e-9 * (1 + float(squares[-1]))]
    return float((best[0] + best[-1]) / 2)


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
