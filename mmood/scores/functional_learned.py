"""Scores of prompt-learning papers, as pure functions on unit-norm embeddings.

B images of P patches, C ID prompts, M negative prompts. The temperature divides the cosine.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from mmood.scores.functional import max_softmax, max_softmax_log_odds
from mmood.scores.functional_mixtures import mean_log_odds
from mmood.scores.stable import log_sum_exp

Embedding = Float[Tensor, "batch dim"]
Texts = Float[Tensor, "texts dim"]
Scores = Float[Tensor, " batch"]

_CELLS = 2**22
"""Cosines of regions with prompts that are worked on at a time: 32 MiB in float64."""


def positive_max_log_odds(
    embedding: Float[Tensor, "*rows dim"], positive: Texts, negative: Texts, temperature: float = 1.0
) -> Float[Tensor, "*rows"]:
    """Return the log-odds of max_c p_c, p the softmax over ID and negative prompts together (NegPrompt, CVPR 2024).

    >>> one = torch.ones(1, 1)
    >>> positive_max_log_odds(one, one, one)
    tensor([0.])
    """
    inside, outside = embedding @ positive.T / temperature, embedding @ negative.T / temperature
    largest, where = inside.max(dim=-1, keepdim=True)
    others = torch.cat([inside.scatter(-1, where, -torch.inf), outside], dim=-1)
    return largest.squeeze(-1) - log_sum_exp(others)


def local_prompt(
    embedding: Embedding,
    patches: Float[Tensor, "batch patches dim"],
    positive: Texts,
    local: Texts,
    local_negative: Texts,
    temperature: float = 1.0,
    top_k: int = 10,
) -> Scores:
    """Return Local-Prompt's score (arXiv 2409.04796), in (0, 2).

    S = max_c softmax_c(v.t_c / T) + mean of the K largest, over regions r and classes c, of
    e^{v_r.l_c / T} / (sum_c e^{v_r.l_c / T} + sum_n e^{v_r.n / T}).

    Args:
        embedding: (B, D) of images.
        patches: (B, P, D) of their regions.
        positive: (C, D) prompts of images.
        local: (C, D) prompts of regions.
        local_negative: (N, D) negative prompts of regions; N may be 0.
        temperature: T.
        top_k: K; all, where there are fewer.

    >>> one = torch.ones(1, 1)
    >>> local_prompt(one, one.unsqueeze(0), one, one, one)
    tensor([1.5000])
    """
    found = []
    rows = max(1, _CELLS // max(1, patches.shape[1] * (len(local) + len(local_negative))))
    exporting = torch.compiler.is_exporting()
    for part in [patches] if exporting else torch.split(patches, rows):
        inside, outside = part @ local.T / temperature, part @ local_negative.T / temperature
        p = (inside - log_sum_exp(torch.cat([inside, outside], dim=-1)).unsqueeze(-1)).exp().flatten(1)
        found.append(p.topk(min(top_k, p.shape[1]), dim=1).values.mean(dim=1))
    return max_softmax(embedding @ positive.T, temperature) + (found[0] if exporting else torch.cat(found))


def multi_modal_log_odds(
    embedding: Embedding,
    texts: Texts,
    images: Texts,
    image_to_text: Float[Tensor, "dim dim"],
    temperature: float = 1.0,
) -> Scores:
    """Return the log-odds of SUPREME's S_GMP (arXiv 2502.00662, second-hand).

    S is the mean of four maximal softmax probabilities: of the image v and of its map A v / |A v|, each among text
    prototypes and among image prototypes. Of A = 1 it is the mean of two, S_MMP.

    >>> multi_modal_log_odds(torch.eye(2), torch.ones(2, 2), torch.ones(2, 2), torch.eye(2))
    tensor([0., 0.])
    """
    mapped = normalize(embedding @ image_to_text.T, dim=-1)
    pairs = [(rows, prototypes) for rows in (embedding, mapped) for prototypes in (texts, images)]
    odds = [max_softmax_log_odds(rows @ prototypes.T, temperature) for rows, prototypes in pairs]
    return mean_log_odds(odds, [1.0] * len(odds))
