"""Logarithms of sums and of sigmoids that keep their digits in an exported graph, too.

In onnxruntime logsumexp overflows, logsigmoid is the logarithm of a sigmoid that has underflowed, and log1p is the
logarithm of 1 + x, which rounds a small x away. While a graph is exported, each is therefore spelt out as torch
computes it.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional


def precise(values: Float[Tensor, "*rows"]) -> Float[Tensor, "*rows"]:
    """Return values in float64; on Apple's GPUs, which have none, as they are."""
    return values if values.device.type == "mps" else values.double()


def with_gradient(values: Tensor) -> bool:
    """Return whether autograd follows what is computed from these values."""
    return values.requires_grad and torch.is_grad_enabled()


def log_sum_exp(values: Float[Tensor, "*rows columns"]) -> Float[Tensor, "*rows"]:
    """Return log sum exp over the last dimension; at least one value of a row must be finite.

    >>> log_sum_exp(torch.tensor([[1000.0, -torch.inf]]))
    tensor([1000.])
    """
    if not torch.compiler.is_exporting():
        return values.logsumexp(dim=-1)
    largest = values.amax(dim=-1, keepdim=True)
    return (values - largest).exp().sum(dim=-1).log() + largest.squeeze(-1)


def log_sigmoid(values: Float[Tensor, "*rows"]) -> Float[Tensor, "*rows"]:
    """Return log(1 / (1 + exp(-x))).

    >>> log_sigmoid(torch.tensor([-1000.0]))
    tensor([-1000.])
    """
    if not torch.compiler.is_exporting():
        return functional.logsigmoid(values)
    return values.clamp_max(0) - _log1p(torch.exp(-values.abs()))


def log1p(values: Float[Tensor, "*rows"]) -> Float[Tensor, "*rows"]:
    """Return log(1 + x) with the digits of a small x.

    >>> log1p(torch.tensor([1e-20]))
    tensor([1.0000e-20])
    """
    return _log1p(values) if torch.compiler.is_exporting() else torch.log1p(values)


def _log1p(values: Float[Tensor, "*rows"]) -> Float[Tensor, "*rows"]:
    """Return log(1 + x) with the digits of a small x: the rounding of 1 + x cancels in log(1 + x) / ((1 + x) - 1)."""
    above = 1 + values
    lost = above == 1
    return torch.where(lost, values, above.log() * values / torch.where(lost, torch.ones_like(above), above - 1))
