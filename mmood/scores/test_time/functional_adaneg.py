"""AdaNeg as pure functions: log-probabilities of names and negatives, gates, entropy, proxies of texts and images.

B images, T = C + M texts (the C ID names first, then M negatives in G equal runs, the groups), L images a text.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn.functional import logsigmoid, normalize

from mmood.scores.test_time.softmax_masses import SoftmaxMasses

Scores = Float[Tensor, " batch"]
Logits = Float[Tensor, "batch texts"]


def log_probabilities(log_sums: Float[Tensor, "batch segments"]) -> tuple[Scores, Scores]:
    """Return log S and log(1 - S) of NegLabel's S (arXiv 2403.20078), each exact where S rounds to 0 or 1.

    S = 1/G sum_g P_g with P_g = sigmoid(LSE_c - LSE_g), the softmax mass of the ID names among names and group g.

    Args:
        log_sums: (B, 1 + G) log sum exp(logit) over the ID names, then over each group.

    >>> log_probabilities(torch.tensor([[90.0, 0.0]]))[1]
    tensor([-90.])
    """
    gap = log_sums[:, :1] - log_sums[:, 1:]
    groups = math.log(gap.shape[1])
    return logsigmoid(gap).logsumexp(-1) - groups, logsigmoid(-gap).logsumexp(-1) - groups


def mixed_log_odds(adaptive: tuple[Scores, Scores], static: tuple[Scores, Scores], weight: float = 0.1) -> Scores:
    """Return the log-odds of (S_ada + w S_NL) / (1 + w), AdaNeg's score, given log S and log(1 - S) of both.

    It orders images as S_ada + w S_NL does (arXiv 2410.20149), and does not saturate.

    >>> even, sure = (torch.tensor([0.5]).log(),) * 2, (torch.tensor([0.9]).log(), torch.tensor([0.1]).log())
    >>> mixed_log_odds(sure, even, weight=1.0).sigmoid()
    tensor([0.7000])
    """
    if weight == 0:
        return adaptive[0] - adaptive[1]
    accept, reject = (torch.logaddexp(a, s + math.log(weight)) for a, s in zip(adaptive, static, strict=True))
    return accept - reject


def adaneg(adaptive: Logits, static: Logits, classes: int, groups: int = 5, weight: float = 0.1) -> Scores:
    """Return AdaNeg's (S_ada + w S_NL) / (1 + w) itself, in [0, 1] (arXiv 2410.20149).

    Args:
        adaptive: (B, T) cosines with the adaptive proxies divided by the temperature.
        static: (B, T) cosines with the texts divided by the temperature.
        classes: C.
        groups: G.
        weight: w, lambda in the paper.

    >>> adaneg(torch.tensor([[9.0, 9.0]]), torch.tensor([[0.0, 0.0]]), classes=1, groups=1)
    tensor([0.5000])
    """
    both = [log_probabilities(SoftmaxMasses.of(logits, classes, groups).log_sums()) for logits in (adaptive, static)]
    return mixed_log_odds(both[0], both[1], weight).sigmoid()


def gates(
    log_odds: Scores, centre: float = 0.5, gap_id: float = 0.5, gap_ood: float = 0.5
) -> tuple[Bool[Tensor, " batch"], Bool[Tensor, " batch"]]:
    """Return which images have S > y + g (1 - y), confident ID, and which S < y - g y, confident OoD.

    Args:
        log_odds: log S - log(1 - S).
        centre: y, gamma in the paper.
        gap_id: g of the ID gate.
        gap_ood: g of the OoD gate.

    >>> [gate.tolist() for gate in gates(torch.tensor([-2.0, 0.0, 2.0]))]
    [[False, False, True], [True, False, False]]
    """
    return log_odds > _logit(centre + gap_id * (1 - centre)), log_odds < _logit(centre - gap_ood * centre)


def entropy(logits: Float[Tensor, "batch options"]) -> Scores:
    """Return the entropy of the softmax, in nats, with full relative precision near 0.

    With z = logits - max and r the sum of exp(z) without the largest, H = log(1 + r) + sum(-z exp(z)) / (1 + r): no
    term is negative, so nothing cancels. The plain form loses all digits below 1e-7, and confident images are there.

    >>> entropy(torch.tensor([[0.0, 0.0], [40.0, 0.0]]))
    tensor([6.9315e-01, 1.7418e-16])
    """
    gap, top = (logits - logits.amax(-1, keepdim=True)), logits.argmax(-1, keepdim=True)
    mass = gap.exp().scatter(-1, top, 0.0)
    rest = mass.sum(-1)
    return rest.log1p() - (mass * gap).sum(-1) / (1 + rest)


def task_proxies(
    texts: Float[Tensor, "texts dim"], images: Float[Tensor, "texts images dim"]
) -> Float[Tensor, "texts dim"]:
    """Return the unit-norm mean of each text and its images, the task-adaptive proxy; an empty place is a zero row.

    >>> task_proxies(torch.tensor([[1.0, 0.0]]), torch.tensor([[[0.0, 1.0], [0.0, 0.0]]]))
    tensor([[0.7071, 0.7071]])
    """
    return normalize(texts + images.sum(dim=1), dim=-1)


def gram(
    texts: Float[Tensor, "texts dim"], images: Float[Tensor, "texts images dim"]
) -> Float[Tensor, "texts places places"]:
    """Return the inner products of each text and its images, the text in front; zero for an empty place.

    >>> gram(torch.tensor([[1.0, 0.0]]), torch.tensor([[[0.6, 0.8]]]))
    tensor([[[1.0000, 0.6000],
             [0.6000, 1.0000]]])
    """
    rows = torch.cat([texts.unsqueeze(1), images], dim=1)
    return torch.bmm(rows, rows.transpose(1, 2))


def sample_cosines(
    cosines: Float[Tensor, "texts places batch"], inner: Float[Tensor, "texts places places"], beta: float = 5.5
) -> Float[Tensor, "texts batch"]:
    """Return the cosines of images with proxies that weigh the memory by its likeness to the image.

    The sample-adaptive proxy of a text is q(x) = norm(sum_l w_l F_l), w_l = exp(-beta (1 - v.F_l)) (arXiv 2410.20149).
    As v.q = sum_l w_l v.F_l / sqrt(w' K w) with K the inner products of the F_l, no (B, T, D) proxy is built.

    Args:
        cosines: v.F_l of every image, text and place, zero for an empty place.
        inner: K, zero for an empty place.
        beta: how sharply likeness counts.

    >>> sample_cosines(torch.tensor([[[1.0], [0.0]]]), torch.eye(2)[None], beta=1.0)
    tensor([[0.9385]])
    """
    weight = ((cosines - 1) * beta).exp_()
    norm = (weight * torch.bmm(inner, weight)).sum(dim=1).clamp_min_(torch.finfo(weight.dtype).tiny).sqrt_()
    return (weight * cosines).sum(dim=1) / norm


def lowest_of_each(
    owner: Int64[Tensor, " entries"], key: Float[Tensor, " entries"], limit: int
) -> tuple[Int64[Tensor, " kept"], Int64[Tensor, " kept"]]:
    """Return which entries are among the `limit` lowest of their owner, by owner and key, and their ranks from 0.

    Of equal keys the earlier entry is the lower. So the result is what one gets by taking entries one after another,
    each replacing its owner's highest if it is strictly lower: owners are independent of each other.

    >>> [x.tolist() for x in lowest_of_each(torch.tensor([7, 3, 7, 7]), torch.tensor([2.0, 9.0, 1.0, 2.0]), 2)]
    [[1, 2, 0], [0, 0, 1]]
    """
    order = key.sort(stable=True).indices
    order = order[owner[order].sort(stable=True).indices]
    sorted_owner = owner[order]
    rank = torch.arange(len(order), device=owner.device) - torch.searchsorted(sorted_owner, sorted_owner)
    return order[rank < limit], rank[rank < limit]


def _logit(probability: float) -> float:
    if not 0 < probability < 1:
        return math.inf if probability >= 1 else -math.inf
    return math.log(probability / (1 - probability))
