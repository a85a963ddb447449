"""Scores against negative labels, as pure functions on unit-norm embeddings.

B images, C ID prototypes, M negatives in G groups. The temperature divides the cosine: CLIP's scale of 100 is 0.01.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from mmood.scores.stable import log_sigmoid, log_sum_exp, with_gradient

Embedding = Float[Tensor, "batch dim"]
Prototypes = Float[Tensor, "classes dim"]
Negatives = Float[Tensor, "negatives dim"]
Scores = Float[Tensor, " batch"]

BLOCK = 1024, 2048
"""Cosines that are worked on at a time: 8 MiB, which the passes after the product find in the cache."""
GPU_BLOCK = 8192, 8192
"""The same on a GPU, which waits for the next product if they are small."""


def group_order(count: int, groups: int, seed: int = 0) -> Int64[Tensor, " kept"]:
    """Return which of `count` negatives stand where, so that `groups` equal runs of them are NegLabel's groups.

    The last count mod groups negatives are dropped and the others permuted with a private CPU generator. (The reference
    permutes on the GPU and with the global generator; its groups for the same seed are others.)

    >>> sorted(group_order(7, groups=2).tolist())
    [0, 1, 2, 3, 4, 5]
    """
    if not 1 <= groups <= count:
        raise ValueError(f"{count} negative labels cannot be split into {groups} groups.")
    return torch.randperm(count - count % groups, generator=torch.Generator().manual_seed(seed))


def group_logsumexp(
    embedding: Embedding, texts: Float[Tensor, "texts dim"], temperature: float = 0.01, groups: int = 1
) -> Float[Tensor, "batch groups"]:
    """Return log sum exp(cos / T) over each of `groups` equal runs of `texts`, without the (B, M) matrix.

    The largest exponent of every image and group is taken out, so nothing over- or underflows at any temperature. With
    a gradient it does take the (B, M) matrix.

    >>> group_logsumexp(torch.tensor([[1.0, 0.0]]), torch.eye(2), temperature=1.0, groups=2)
    tensor([[1., 0.]])
    """
    size, rest = divmod(len(texts), groups)
    if rest or not size:
        raise ValueError(f"{len(texts)} texts cannot be split into {groups} groups of the same size.")
    if torch.compiler.is_exporting() or with_gradient(embedding):
        # Neither a graph nor a gradient has buffers, and a graph does not know over how many images to loop.
        return log_sum_exp((embedding / temperature @ texts.T).view(-1, groups, size))
    return _blockwise(embedding, texts, temperature, groups)


@torch.no_grad()
def _blockwise(
    embedding: Embedding, texts: Float[Tensor, "texts dim"], temperature: float, groups: int
) -> Float[Tensor, "batch groups"]:
    size = len(texts) // groups
    rows, columns = GPU_BLOCK if embedding.is_cuda else BLOCK
    batch, step = len(embedding), max(1, columns // size)
    result = embedding.new_empty(batch, groups)
    buffer = embedding.new_empty(min(rows, batch) * min(step, groups) * size)
    for row in range(0, batch, rows):
        scaled = embedding[row : row + rows] / temperature
        for group in range(0, groups, step):
            block = texts[group * size : (group + step) * size]
            logits = buffer[: len(scaled) * len(block)].view(len(scaled), len(block))
            logits = torch.mm(scaled, block.T, out=logits).view(len(scaled), -1, size)
            largest = logits.amax(-1, keepdim=True)
            sums = logits.sub_(largest).exp_().sum(-1)
            result[row : row + rows, group : group + step] = sums.log_().add_(largest.squeeze(-1))
    return result


def grouped_log_odds(positive: Scores, negative: Float[Tensor, "batch groups"]) -> Scores:
    """Return log S - log(1 - S) of S = mean_g sigmoid(a - b_g) for a = `positive` and b_g = `negative`.

    Both logarithms are log-sum-exps of log-sigmoids, so scores stay apart where S itself rounds to 0 or 1. With one
    group it is a - b.

    >>> grouped_log_odds(torch.tensor([90.0]), torch.tensor([[10.0, 10.0]]))
    tensor([80.])
    """
    gap = positive.unsqueeze(-1) - negative
    return log_sum_exp(log_sigmoid(gap)) - log_sum_exp(log_sigmoid(-gap))


def neglabel_log_odds(
    embedding: Embedding, prototypes: Prototypes, negatives: Negatives, temperature: float = 0.01, groups: int = 1
) -> Scores:
    """Return the log-odds of NegLabel's score S, in float32 without ties from saturation (arXiv 2403.20078).

    S = 1/G sum_g P_g with P_g = sum_c exp(u.t_c / T) / (sum_c exp(u.t_c / T) + sum_{m in g} exp(u.n_m / T)). As
    P_g = sigmoid(LSE_c - LSE_g), one log-sum-exp per group suffices and no (B, C + M) softmax is built.

    Args:
        embedding: (B, D) of the images.
        prototypes: (C, D) of the ID classes.
        negatives: (M, D), ordered so that each of the G equal runs is a group (see `group_order`).
        temperature: T, divides the cosine.
        groups: G; the paper's code uses 100, the single softmax is 1.

    >>> image, name, word = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    >>> neglabel_log_odds(image, name, word)
    tensor([100.])
    """
    positive = group_logsumexp(embedding, prototypes, temperature).squeeze(-1)
    return grouped_log_odds(positive, group_logsumexp(embedding, negatives, temperature, groups))


def mean_group_margin(
    embedding: Embedding, prototypes: Prototypes, negatives: Negatives, temperature: float = 0.01, groups: int = 1
) -> Scores:
    """Return the mean over the groups of log P - log N_g, the log masses of ID names and of a group's negatives.

    It is the log-odds of NegLabel's S with a single group. With several it rises with each S_g, also where other
    groups dominate their mean.

    >>> image, name, word = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    >>> mean_group_margin(image, name, word)
    tensor([100.])
    """
    positive = group_logsumexp(embedding, prototypes, temperature).squeeze(-1)
    return positive - group_logsumexp(embedding, negatives, temperature, groups).mean(dim=-1)


def neglabel(
    embedding: Embedding, prototypes: Prototypes, negatives: Negatives, temperature: float = 0.01, groups: int = 1
) -> Scores:
    """Return NegLabel's S itself, in [0, 1]; it rounds to 1 in float32 from log-odds of about 17 on.

    >>> image, name, word = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0]])
    >>> neglabel(image, name, word)
    tensor([0.5000])
    """
    return neglabel_log_odds(embedding, prototypes, negatives, temperature, groups).sigmoid()


def eoe(
    positive: Float[Tensor, "batch classes"],
    negative: Float[Tensor, "batch outliers"],
    beta: float = 0.25,
    temperature: float = 1.0,
) -> Scores:
    """Return EOE's score max_c p_c - beta max_o p_o, p the softmax over ID and outlier cosines together (ICML 2024).

    Args:
        positive: (B, C) cosines to the ID classes.
        negative: (B, L) cosines to the outlier names.
        beta: weight of the largest outlier probability.
        temperature: divides the cosines; 1 as in the paper.

    >>> eoe(torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 0.0]]))
    tensor([0.1875])
    """
    p: Tensor = (torch.cat([positive, negative], dim=-1) / temperature).softmax(-1)
    classes = positive.shape[-1]
    return p[:, :classes].amax(-1) - beta * p[:, classes:].amax(-1)


def eoe_log_odds(
    positive: Float[Tensor, "batch classes"],
    negative: Float[Tensor, "batch outliers"],
    beta: float = 0.25,
    temperature: float = 1.0,
) -> Scores:
    """Return log(S + beta) - log(1 - S) of EOE's score S, whose bounds are -beta and 1; see `eoe`.

    Both differences are sums of the other probabilities, so nothing saturates at the bounds.

    >>> eoe_log_odds(torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 0.0]])).exp()  # 7/16 against 13/16
    tensor([0.5385])
    """
    p: Tensor = (torch.cat([positive, negative], dim=-1) / temperature).softmax(-1)
    inside, name = p[:, : positive.shape[-1]].max(dim=-1, keepdim=True)
    outside, outlier = p[:, positive.shape[-1] :].max(dim=-1, keepdim=True)
    without_name = p.scatter(-1, name, 0.0).sum(dim=-1)
    without_outlier = p.scatter(-1, outlier + positive.shape[-1], 0.0).sum(dim=-1)
    above = inside.squeeze(-1) + beta * without_outlier
    return above.log() - (without_name + beta * outside.squeeze(-1)).log()
