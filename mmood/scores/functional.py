"""Scores on the logits of a classifier, as pure functions.

Every function takes logits (B, C) in float32 or float64 and a `temperature` that divides them, and returns (B,) in the
same type; higher = more in-distribution. For a head of text prototypes the logits are raw cosines, so the temperature
is on the cosine: CLIP's own scale of 100 is the temperature 0.01.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from mmood.scores.softmax import Softmax, binary_log_products
from mmood.scores.stable import log_sigmoid

Logits = Float[Tensor, "batch classes"]
Scores = Float[Tensor, " batch"]


def max_softmax_log_odds(logits: Logits, temperature: float = 1.0) -> Scores:
    """Return the log-odds of the maximum softmax probability p = max_c softmax_c(logits / T): log p - log(1 - p).

    1 - p is summed over the other classes, never subtracted from 1, so that scores do not tie at p = 1. With one class
    p is 1 and the score is +inf. On raw cosines with T = 1 this orders images as MCM does (arXiv 2211.13445).

    >>> max_softmax_log_odds(torch.tensor([[0.0, 0.0]]))
    tensor([0.])
    """
    return Softmax.of(logits, temperature).log_odds


def max_softmax(logits: Logits, temperature: float = 1.0) -> Scores:
    """Return the maximum softmax probability max_c softmax_c(logits / T), in (0, 1] (arXiv 1610.02136).

    >>> max_softmax(torch.tensor([[0.0, 0.0]]))
    tensor([0.5000])
    """
    return max_softmax_log_odds(logits, temperature).sigmoid()


def max_logit(logits: Logits) -> Scores:
    """Return max_c logit_c, on the scale of the logits (arXiv 1911.11132).

    >>> max_logit(torch.tensor([[1.0, 3.0]]))
    tensor([3.])
    """
    return logits.amax(dim=-1)


def energy(logits: Logits, temperature: float = 1.0) -> Scores:
    """Return the negative free energy T * logsumexp_c(logits / T), on the scale of the logits (arXiv 2010.03759).

    >>> energy(torch.tensor([[0.0, 0.0]])).exp()
    tensor([2.])
    """
    return temperature * Softmax.of(logits, temperature).log_sum_exp


def entropy(logits: Logits, temperature: float = 1.0) -> Scores:
    """Return the Shannon entropy H = -sum_c p_c log p_c of p = softmax(logits / T), in nats, in [0, log C].

    The one score here that is high for OoD. log p of the largest probability comes from its log-odds, so that H keeps
    its relative precision when p is 1 to the last bit.

    >>> entropy(torch.tensor([[0.0, 0.0]])).exp()
    tensor([2.])
    """
    return Softmax.of(logits, temperature).entropy


def entropy_log_odds(logits: Logits, temperature: float = 1.0) -> Scores:
    """Return the log-odds of the share 1 - H / log C, H the entropy of softmax(logits / T); 0 with one class.

    It orders images as -H does, and keeps apart both nearly uniform and nearly certain ones.

    >>> entropy_log_odds(torch.tensor([[0.0, 0.0]]))
    tensor([-inf])
    """
    return entropy_share_log_odds(Softmax.of(logits, temperature))


def entropy_share_log_odds(softmax: Softmax) -> Scores:
    """Return `entropy_log_odds` of a softmax."""
    classes = softmax.scaled.shape[-1]
    if classes == 1:
        return torch.zeros_like(softmax.scaled[..., 0])
    found = softmax.entropy
    # Rounding may leave the uniform distribution a hair above log C.
    return (math.log(classes) - found).clamp_min(0).log() - found.log()


def noisy_or_log_odds(logits: Logits) -> Scores:
    """Return the log-odds of 1 - prod_c (1 - sigmoid(logit_c)), the probability of any of C independent classes.

    With a = -log prod_c (1 - p_c) = -sum_c log sigmoid(-logit_c) they are log(exp(a) - 1), here a + log(1 - exp(-a)).

    >>> noisy_or_log_odds(torch.tensor([[0.0, 0.0]])).exp()  # 3/4 against 1/4
    tensor([3.])
    """
    against = -log_sigmoid(-logits).sum(dim=-1)
    return against + (-torch.expm1(-against)).log()


def softmax_variance(logits: Logits, temperature: float = 1.0) -> Scores:
    """Return the variance over the C classes (divided by C) of softmax(logits / T), in [0, (C - 1) / C^2].

    With p_c = 1/C + d_c and d = (expm1(z_c) - mean expm1(z)) / sum exp(z) for z = logits / T - mean: the deviations are
    formed without cancellation, so that nearly uniform probabilities (cosines at T = 1) keep their order in float32.

    >>> softmax_variance(torch.tensor([[0.0, 0.0]]))
    tensor([0.])
    """
    return variance_of(Softmax.of(logits, temperature))


def variance_of(softmax: Softmax) -> Scores:
    """Return `softmax_variance` of a softmax."""
    grown = (softmax.scaled - softmax.scaled.amax(dim=-1, keepdim=True)).expm1_()
    squares = (grown - grown.mean(dim=-1, keepdim=True)).square_().mean(dim=-1)
    # 1 / sum exp(z) is the largest probability.
    return squares * (2 * log_sigmoid(softmax.log_odds)).exp()


def variance_log_odds(softmax: Softmax) -> Scores:
    """Return log V - log(M - V) of the variance V of a softmax, M = (C - 1) / C^2 its largest possible value.

    M - V = sum_c p_c (1 - p_c) / C is summed, never subtracted, so nothing saturates at a certain class.

    >>> variance_log_odds(Softmax(torch.tensor([[0.0, math.log(3.0)]]))).exp()  # 1/16 against 3/16
    tensor([0.3333])
    """
    largest, others = binary_log_products(softmax, None)
    rest = (largest.exp() + others.exp().sum(dim=-1)) / softmax.scaled.shape[-1]
    return variance_of(softmax).log() - rest.log()


def generalised_entropy(logits: Logits, temperature: float = 1.0, gamma: float = 0.1, top: int | None = None) -> Scores:
    """Return GEN, the negative generalised entropy -sum_{c in top} p_c^gamma (1 - p_c)^gamma (Liu et al., CVPR 2023).

    Args:
        logits: (B, C).
        temperature: divides the logits.
        gamma: exponent in (0, 1]; 0.1 in the paper.
        top: sum over this many largest probabilities only (100 in the paper for 1,000 classes); None for all.

    >>> generalised_entropy(torch.tensor([[0.0, 0.0]]), gamma=0.5)
    tensor([-1.])
    """
    return gen_of(Softmax.of(logits, temperature), gamma, top)


def gen_of(softmax: Softmax, gamma: float = 0.1, top: int | None = None) -> Scores:
    """Return `generalised_entropy` of a softmax."""
    largest, others = binary_log_products(softmax, top)
    return -((gamma * largest).exp() + others.mul_(gamma).exp_().sum(dim=-1))


def margin(logits: Logits) -> Scores:
    """Return the gap between the two largest logits, on the scale of the logits; +inf with one class.

    >>> margin(torch.tensor([[1.0, 4.0, 2.0]]))
    tensor([2.])
    """
    if logits.shape[-1] == 1:
        return logits.new_full(logits.shape[:-1], torch.inf)
    largest = logits.topk(2, dim=-1).values
    return largest[..., 0] - largest[..., 1]
