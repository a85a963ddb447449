"""TINS as pure functions on unit-norm embeddings: NegLabel's score with a mean in place of the negatives' sum."""

from __future__ import annotations

import math

from jaxtyping import Float
from torch import Tensor

from mmood.scores.functional_negatives import group_logsumexp, grouped_log_odds

Scores = Float[Tensor, " batch"]


def tins_log_odds(
    embedding: Float[Tensor, "batch dim"],
    prototypes: Float[Tensor, "classes dim"],
    negatives: Float[Tensor, "negatives dim"],
    temperature: float = 0.01,
    groups: int = 5,
) -> Scores:
    """Return log S - log(1 - S) of TINS's S (arXiv 2605.10756).

    S = 1/G sum_g P / (P + C mean_{m in g} exp(u.n_m / T)), P = sum_c exp(u.t_c / T). The mean makes S independent of
    the number of negatives; with groups of C negatives, S is NegLabel's.

    Args:
        embedding: (B, D) of images.
        prototypes: (C, D) of ID names.
        negatives: (M, D); the groups are equal runs of them.
        temperature: T, divides the cosine.
        groups: G.

    Raises:
        ValueError: M is no multiple of G.

    >>> import torch
    >>> names, words = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]).repeat(8, 1)
    >>> tins_log_odds(torch.tensor([[1.0, 0.0]]), names, words, temperature=1.0, groups=2)
    tensor([1.])
    """
    positive = group_logsumexp(embedding, prototypes, temperature).squeeze(-1)
    negative = group_logsumexp(embedding, negatives, temperature, groups)
    return grouped_log_odds(positive, negative + math.log(len(prototypes) * groups / len(negatives)))


def tins(
    embedding: Float[Tensor, "batch dim"],
    prototypes: Float[Tensor, "classes dim"],
    negatives: Float[Tensor, "negatives dim"],
    temperature: float = 0.01,
    groups: int = 5,
) -> Scores:
    """Return TINS's S itself, in [0, 1]; the arguments are those of `tins_log_odds`.

    >>> import torch
    >>> image, name, word = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.6, 0.8]]), torch.tensor([[0.6, -0.8]])
    >>> tins(image, name, word, groups=1)
    tensor([0.5000])
    """
    return tins_log_odds(embedding, prototypes, negatives, temperature, groups).sigmoid()
