"""Shapings of features before a linear head, as pure functions.

ReAct, ASH and SCALE were made for penultimate features after a ReLU, which are never negative. Features of a ViT are
signed; the formulas can be computed there too, but their reasons do not hold: the sum of all features says little
about their size, the ratio in ASH-S and SCALE may be below 1 or negative, and the smallest features are large negative
ones. Published tables show what comes of it: ASH on ViT-B/16 is near chance. Nothing is rectified here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from jaxtyping import Float
from torch import Tensor

Features = Float[Tensor, "batch features"]


def clip_activations(features: Features, threshold: float) -> Features:
    """Return min(features, threshold): ReAct (arXiv 2111.12797).

    >>> clip_activations(torch.tensor([[0.5, 3.0]]), threshold=1.0)
    tensor([[0.5000, 1.0000]])
    """
    return features.clamp_max(threshold)


def ash_p(features: Features, percentile: float) -> Features:
    """Return the features with the smallest `percentile` per cent of each image set to 0: ASH-P (arXiv 2209.09858).

    >>> ash_p(torch.tensor([[1.0, 4.0, 2.0, 3.0]]), percentile=50.0)
    tensor([[0., 4., 0., 3.]])
    """
    values, where = _largest(features, percentile)
    return torch.zeros_like(features).scatter(1, where, values)


def ash_b(features: Features, percentile: float) -> Features:
    """Return k features of the size s1 / k at the k largest, s1 the sum of all: ASH-B (arXiv 2209.09858).

    k is what is left of F when the smallest `percentile` per cent are gone.

    >>> ash_b(torch.tensor([[1.0, 4.0, 2.0, 3.0]]), percentile=50.0)
    tensor([[0., 5., 0., 5.]])
    """
    _, where = _largest(features, percentile)
    fill = features.sum(dim=1, keepdim=True) / where.shape[1]
    return torch.zeros_like(features).scatter(1, where, fill.expand(where.shape))


def ash_s(features: Features, percentile: float) -> Features:
    """Return ASH-P times exp(s1 / s2), s1 the sum before pruning and s2 after: ASH-S (arXiv 2209.09858).

    >>> ash_s(torch.tensor([[0.0, 4.0, 0.0, 3.0]]), percentile=50.0) / torch.e
    tensor([[0., 4., 0., 3.]])
    """
    return ash_p(features, percentile) * _scale(features, percentile)


def scale_activations(features: Features, percentile: float) -> Features:
    """Return the features times exp(s1 / s2), with s1 and s2 of ASH-S and nothing pruned: SCALE (arXiv 2310.00227).

    >>> scale_activations(torch.tensor([[1.0, 1.0]]), percentile=50.0).log()
    tensor([[2., 2.]])
    """
    return features * _scale(features, percentile)


def percentile_of(stream: Callable[[], Iterable[Tensor]], percentile: float) -> float:
    """Return the exact percentile of all numbers in a stream of float32 tensors, without keeping them.

    The smallest number that at least `percentile` per cent of all are not above: `numpy.percentile` with the method
    `inverted_cdf`. Two passes: float32 numbers in order are integers in order, so the first counts their upper 16 bits
    and the second the lower 16 bits of those that share the upper ones.

    Args:
        stream: a function that starts a pass over the numbers, all finite.
        percentile: in [0, 100].

    >>> percentile_of(lambda: [torch.tensor([3.0, 1.0]), torch.tensor([2.0, 4.0])], percentile=50.0)
    2.0
    """
    upper = sum(torch.bincount(_ordered(chunk) >> 16, minlength=1 << 16) for chunk in stream())
    assert isinstance(upper, Tensor)
    total = int(upper.sum())
    rank = max(-int(-percentile * total // 100), 1)
    high = int(torch.searchsorted(upper.cumsum(0), rank))
    rank -= int(upper[:high].sum())
    lower = torch.zeros(1 << 16, dtype=torch.int64)
    for chunk in stream():
        ordered = _ordered(chunk)
        lower += torch.bincount(ordered[ordered >> 16 == high] & 0xFFFF, minlength=1 << 16)
    code = (high << 16) + int(torch.searchsorted(lower.cumsum(0), rank))
    return float(_unordered(code))


def _ordered(numbers: Tensor) -> Tensor:
    """Return for every float32 number an integer in [0, 2^32) that sorts as the number does."""
    bits = numbers.float().flatten().view(torch.int32).long()
    # Negative numbers sort backwards by their bits; they go below the positive ones.
    return torch.where(bits >= 0, bits + (1 << 31), -bits - 1)


def _unordered(code: int) -> float:
    bits = code - (1 << 31) if code >= 1 << 31 else -code - 1
    return torch.tensor([bits], dtype=torch.int32).view(torch.float32).item()


def _largest(features: Features, percentile: float) -> tuple[Tensor, Tensor]:
    width = features.shape[1]
    kept = max(width - round(width * percentile / 100), 1)
    if torch.compiler.is_exporting():
        # ONNX's top-k chooses the first among equals, and there is no stable sort.
        top = features.topk(kept, dim=1)
        return top.values, top.indices
    # Stable: after a ReLU many features tie at 0, and `topk` would choose among them by device.
    values, where = features.sort(dim=1, descending=True, stable=True)
    return values[:, :kept], where[:, :kept]


def _scale(features: Features, percentile: float) -> Float[Tensor, "batch 1"]:
    kept, _ = _largest(features, percentile)
    ratio = features.sum(dim=1, keepdim=True) / kept.sum(dim=1, keepdim=True)
    # Features that are not negative have a ratio of at most F / k; signed ones would overflow where the kept sum is
    # next to 0. 0 / 0 is an image whose features are all 0, and stay so.
    return ratio.nan_to_num(nan=1.0).clamp_max(features.shape[1] / kept.shape[1]).exp()
