"""Means of probabilities that several classifiers give, computed from logarithms."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from mmood.scores.stable import log_sigmoid, log_sum_exp


def mean_log_odds(log_odds: Sequence[Float[Tensor, " batch"]], weights: Sequence[float]) -> Float[Tensor, " batch"]:
    """Return the log-odds of the mean p = sum_k w_k p_k / sum_k w_k of probabilities given by their log-odds.

    It orders images as sum_k w_k p_k does, and never ties at 0 or 1.

    Args:
        log_odds: of p_k, one tensor for each of them.
        weights: w_k, none below 0, one of them above.

    >>> mean_log_odds([torch.tensor([0.0]), torch.tensor([0.0])], [1.0, 0.5])
    tensor([0.])
    """
    given = [(odds, math.log(weight)) for odds, weight in zip(log_odds, weights, strict=True) if weight > 0]
    inside = torch.stack([log_sigmoid(odds) + weight for odds, weight in given], dim=-1)
    outside = torch.stack([log_sigmoid(-odds) + weight for odds, weight in given], dim=-1)
    return log_sum_exp(inside) - log_sum_exp(outside)


def log_mean_softmax(logits: Sequence[Float[Tensor, "batch classes"]]) -> Float[Tensor, "batch classes"]:
    """Return log q, where q is the mean of the softmaxes of several classifiers over the same classes.

    >>> log_mean_softmax([torch.tensor([[0.0, 0.0]]), torch.tensor([[1.0, 1.0]])]).exp()
    tensor([[0.5000, 0.5000]])
    """
    return log_sum_exp(torch.stack([one.log_softmax(dim=-1) for one in logits], dim=-1)) - math.log(len(logits))
