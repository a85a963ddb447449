"""MODE's loss on the positions of feature maps (ALPA), and the supervised contrastive loss that it is a form of.

ALPA is attention-based local propagation (arXiv 2308.10239). Throughout, N images have P positions each. Pass float32;
logarithms are natural.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize
from torch.utils.checkpoint import checkpoint

CELLS = 2**19
"""Attention weights between positions that are in memory at a time: 2 MiB, which a processor's cache may hold."""


def supervised_contrastive_loss(
    logits: Float[Tensor, "images images"], labels: Int[Tensor, " images"]
) -> Float[Tensor, ""]:
    """Return `mean_i -1/|P(i)| sum_{j in P(i)} log(exp l_ij / sum_{k != i} exp l_ik)` (SupCon, arXiv 2004.11362).

    P(i) are the other images with the label of i. An image without any has no term in the mean; without positives at
    all the loss is 0. The factor τ / 0.07 of the authors' code is not in the paper, and not here.

    Args:
        logits: (N, N) similarities, divided by the temperature; the diagonal is not read.
        labels: (N,) classes.

    >>> logits = torch.tensor([[9.0, 0.0, 0.0], [0.0, 9.0, 0.0], [0.0, 0.0, 9.0]])
    >>> round(supervised_contrastive_loss(logits, torch.tensor([4, 4, 5])).item(), 4)
    0.6931
    """
    own = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    positive = (labels[:, None] == labels) & ~own
    evidence = logits.masked_fill(own, -torch.inf).logsumexp(dim=1)
    count = positive.sum(dim=1)
    attraction = logits.masked_fill(~positive, 0).sum(dim=1) / count.clamp_min(1)
    return ((evidence - attraction) * (count > 0)).sum() / (count > 0).sum().clamp_min(1)


def supcon_loss(
    embedding: Float[Tensor, "images dim"], labels: Int[Tensor, " images"], temperature: float = 0.1
) -> Float[Tensor, ""]:
    """Return the supervised contrastive loss of unit-norm embeddings: the logits are cosines / temperature.

    >>> views = torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [-1.0, 0.0]])
    >>> supcon_loss(views, torch.tensor([0, 0, 1, 1])) < 1e-6
    tensor(True)
    """
    return supervised_contrastive_loss(embedding @ embedding.T / temperature, labels)


def alpa_loss(
    queries: Float[Tensor, "images positions keys"],
    keys: Float[Tensor, "images positions keys"],
    values: Float[Tensor, "images positions values"],
    labels: Int[Tensor, " images"],
    scale: float = 10.0,
) -> Float[Tensor, ""]:
    """Return ALPA (arXiv 2308.10239), the supervised contrastive loss of scale * sim of all pairs of images.

    Args:
        queries: (N, P, d) of the positions of each image.
        keys: (N, P, d).
        values: (N, P, e).
        labels: (N,) classes; two views of an image have one label.
        scale: multiplies the similarities of `aligned_similarities`.
    """
    return supervised_contrastive_loss(scale * aligned_similarities(queries, keys, values), labels)


def aligned_similarities(
    queries: Float[Tensor, "images positions keys"],
    keys: Float[Tensor, "images positions keys"],
    values: Float[Tensor, "images positions values"],
) -> Float[Tensor, "images images"]:
    """Return sim(a, b) of all pairs, in [-2, 2] and symmetric: how alike two maps are where attention aligns them.

    `sim(a, b) = mean_p [cos(v_a^p, â^p) + cos(v_b^p, b̂^p)]` (MODE, arXiv 2308.10239). â = softmax(q_a k_b^T / sqrt(d))
    v_b is the content of b rearranged to the layout of a, and b̂ the other way round. Positions have no code, so their
    order in either image changes nothing.

    Computed for a few images a at a time, and once more in the backward pass, so that no (N P)^2 matrix is ever in
    memory. â itself is never made: with attention A, v_a·â is a sum over A (v_a·v_b), and |â|^2 = A (v_b v_b^T) A^T.

    Args:
        queries: (N, P, d).
        keys: (N, P, d).
        values: (N, P, e).

    >>> one = torch.ones(2, 3, 4)
    >>> aligned_similarities(one, one, one)
    tensor([[2., 2.],
            [2., 2.]])
    """
    images, positions, width = queries.shape
    step = max(1, CELLS // (images * positions**2))
    unit, gram = normalize(values, dim=-1), values @ values.mT
    chunks = zip(torch.split(queries / width**0.5, step), torch.split(unit, step), strict=True)
    again = torch.is_grad_enabled() and images > step
    rows = [
        checkpoint(_directed, *chunk, keys, values, gram, use_reentrant=False, preserve_rng_state=False)
        if again
        else _directed(*chunk, keys, values, gram)
        for chunk in chunks
    ]
    directed = torch.cat(rows)
    return directed + directed.T


def _directed(queries: Tensor, unit: Tensor, keys: Tensor, values: Tensor, gram: Tensor) -> Tensor:
    """Return (n, N): mean_p cos(v_a^p, â^p) of n images a, of which scaled queries and unit values are given."""
    shape = queries.shape[0] * queries.shape[1], *keys.shape[:2]
    attention = (queries.flatten(0, 1) @ keys.flatten(0, 1).T).view(shape).softmax(dim=-1)
    products = (unit.flatten(0, 1) @ values.flatten(0, 1).T).view(shape)
    norm = ((attention.transpose(0, 1) @ gram).transpose(0, 1) * attention).sum(dim=-1).clamp_min(1e-16).sqrt()
    cosines = (attention * products).sum(dim=-1) / norm
    return cosines.view(*queries.shape[:2], -1).mean(dim=1)
