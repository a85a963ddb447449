"""Means, covariances and Mahalanobis distances, as pure functions in float64 over a stream of chunks.

A stream is a function without arguments that starts a pass: it returns an iterator of (labels (n,), rows (n, F)), so
that the (N, F) matrix need not exist in float64, nor in memory at all. Every chunk is centred before it is multiplied:
E[xx'] - mean mean' would lose the digits of features that lie far from 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mmood.errors import MmoodError

Stream = Callable[[], Iterable[tuple[Int[Tensor, " rows"], Float[Tensor, "rows features"]]]]


def class_means(stream: Stream, classes: int) -> tuple[Float[Tensor, "classes features"], Float[Tensor, " classes"]]:
    """Return the mean of the rows of each class, (C, F) float64, and how many there are, (C,) float64.

    An empty class has the mean 0 and the count 0. Takes one pass; every label must be in [0, C).

    >>> means, counts = class_means(lambda: [(torch.tensor([0, 0]), torch.tensor([[1.0], [3.0]]))], classes=2)
    >>> means.tolist(), counts.tolist()
    ([[2.0], [0.0]], [2.0, 0.0])
    """
    counts = torch.zeros(classes, dtype=torch.float64)
    sums = torch.zeros(classes, 0, dtype=torch.float64)
    for labels, rows in stream():
        if sums.shape[1] == 0:
            sums = torch.zeros(classes, rows.shape[1], dtype=torch.float64)
        counts += torch.bincount(labels, minlength=classes)
        sums.index_add_(0, labels, rows.double())
    return sums / counts.clamp_min(1)[:, None], counts


def scatter(
    stream: Stream, centres: Float[Tensor, "classes features"], weights: Float[Tensor, " classes"]
) -> Float[Tensor, "features features"]:
    """Return sum_i w_{y_i} (x_i - m_{y_i})(x_i - m_{y_i})', (F, F) float64, in one pass.

    Args:
        stream: labels y and rows x.
        centres: (C, F) float64, m.
        weights: (C,) float64, w, not negative.

    >>> stream = lambda: [(torch.tensor([0, 0]), torch.tensor([[1.0], [3.0]]))]
    >>> scatter(stream, torch.tensor([[2.0]]).double(), torch.tensor([4.0]).double())
    tensor([[8.]], dtype=torch.float64)
    """
    total = centres.new_zeros(centres.shape[1], centres.shape[1])
    for labels, rows in stream():
        centred = (rows.double() - centres[labels]) * weights[labels].sqrt()[:, None]
        total.addmm_(centred.T, centred)
    return total


def whitening(covariance: Float[Tensor, "features features"], ridge: float) -> Float[Tensor, "features features"]:
    """Return W with W (S + ridge * s * I) W' = I, for the covariance S and the mean s of its diagonal.

    W is the inverse of the Cholesky factor. The ridge is relative to the mean variance: it keeps constant and dependent
    dimensions finite, and is not noticed where the variances are larger.

    Raises:
        MmoodError: all variances are 0, or the matrix is singular in spite of the ridge.

    >>> whitening(4 * torch.eye(1).double(), ridge=0.0)
    tensor([[0.5000]], dtype=torch.float64)
    """
    scale = float(covariance.diagonal().mean())
    if not scale > 0:
        raise MmoodError(
            "All ID training images have equal features (all variances are 0); there is no covariance to estimate."
        )
    unit = torch.eye(len(covariance), dtype=covariance.dtype)
    factor, failed = torch.linalg.cholesky_ex(covariance + ridge * scale * unit)
    if failed:
        raise MmoodError(
            f"The covariance of the ID training images is singular with ridge {ridge}; choose a larger one."
        )
    inverse: Tensor = torch.linalg.solve_triangular(factor, unit, upper=False)
    return inverse


def squared_distances(
    rows: Float[Tensor, "batch features"],
    means: Float[Tensor, "classes features"],
    whitening_matrix: Float[Tensor, "features features"],
) -> Float[Tensor, "batch classes"]:
    """Return the squared Mahalanobis distances ||W (x - m_c)||^2 of every row x to every mean, (B, C) float64.

    >>> squared_distances(torch.tensor([[3.0]]).double(), torch.zeros(1, 1).double(), torch.tensor([[0.5]]).double())
    tensor([[2.2500]], dtype=torch.float64)
    """
    # From the middle of the means, little is lost when the square is multiplied out.
    middle = means.mean(dim=0)
    white_rows, white_means = (rows - middle) @ whitening_matrix.T, (means - middle) @ whitening_matrix.T
    squares = white_rows.square().sum(dim=1)[:, None] + white_means.square().sum(dim=1)
    return (squares - 2 * white_rows @ white_means.T).clamp_min(0)
