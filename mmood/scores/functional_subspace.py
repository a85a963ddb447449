"""The principal subspace of the ID features and what lies outside of it, as pure functions."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from mmood.scores.stable import log_sum_exp


def null_basis(moment: Float[Tensor, "features features"], dimension: int) -> Float[Tensor, "features rest"]:
    """Return an orthonormal basis, (F, F - dimension), of what is orthogonal to the principal subspace.

    The principal subspace is spanned by the `dimension` leading eigenvectors of the second moment of the features.

    >>> null_basis(torch.diag(torch.tensor([4.0, 1.0])), dimension=1).abs()
    tensor([[0.],
            [1.]])
    """
    # Eigenvalues come in ascending order.
    vectors: Tensor = torch.linalg.eigh(moment).eigenvectors
    return vectors[:, : len(moment) - dimension]


def residual_norm(
    rows: Float[Tensor, "batch features"],
    origin: Float[Tensor, " features"],
    basis: Float[Tensor, "features rest"],
) -> Float[Tensor, " batch"]:
    """Return ||R'(x - o)||, how far each row x lies from the principal subspace through the origin o, (B,).

    >>> residual_norm(torch.tensor([[5.0, 3.0]]), torch.tensor([0.0, 1.0]), torch.tensor([[0.0], [1.0]]))
    tensor([2.])
    """
    norms: Tensor = torch.linalg.vector_norm((rows - origin) @ basis, dim=1)
    return norms


def head_origin(
    weight: Float[Tensor, "classes features"], bias: Float[Tensor, " classes"]
) -> Float[Tensor, " features"]:
    """Return -pinv(W) b, the feature at which the head W x + b is nearest to 0 in all classes (arXiv 2203.10807).

    >>> head_origin(torch.tensor([[2.0]]), torch.tensor([1.0]))
    tensor([-0.5000])
    """
    inverse: Tensor = torch.linalg.pinv(weight)
    return -inverse @ bias


def default_dimension(features: int) -> int:
    """Return the dimension of the principal subspace in ViM's code: 1000 from F = 2048 on, 512 from 768, else F / 2.

    >>> default_dimension(768)
    512
    """
    if features >= 2048:
        return 1000
    return 512 if features >= 768 else features // 2


def vim(
    residuals: Float[Tensor, " batch"], logits: Float[Tensor, "batch classes"], alpha: float
) -> Float[Tensor, " batch"]:
    """Return logsumexp_c(logits) - alpha * residual (arXiv 2203.10807, before its softmax).

    The paper's score is the softmax probability of a virtual logit alpha * residual beside the logits of the classes;
    this is its negative log-odds, in the same order.

    >>> vim(torch.tensor([1.0]), torch.tensor([[2.0]]), alpha=0.5)
    tensor([1.5000])
    """
    return log_sum_exp(logits) - alpha * residuals
