"""Scores by Gaussians of the ID classes with a shared covariance."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, Self

import torch
from jaxtyping import Float
from torch import Tensor

from mmood.errors import MmoodError
from mmood.scores.bank import Space, bank_rows, double, fitted, output
from mmood.scores.base import AbstractScore, Embedded, Reference
from mmood.scores.functional_gaussian import Stream, class_means, scatter, squared_distances, whitening
from mmood.scores.surroundings import Surroundings
from mmood.settings import check_number
from mmood.settings.requirements import Requirement

Scores = Float[Tensor, " batch"]
Covariance = Literal["pooled", "mean_of_classes"]
Labels = Literal["given", "predicted"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Gaussians:
    """Normal distributions with one covariance, in float64.

    Attributes:
        means: (C, F), one for each class that has an image.
        whitening: (F, F), W with W'W the inverse of the covariance.
    """

    means: Float[Tensor, "classes features"]
    whitening: Float[Tensor, "features features"]

    def nearest(self, rows: Float[Tensor, "batch features"]) -> Scores:
        """Return the squared Mahalanobis distance to the nearest mean, (B,) float64."""
        return squared_distances(rows, self.means, self.whitening).amin(dim=1)

    def to(self, device: torch.device) -> Gaussians:
        """Return the distributions on a device."""
        return Gaussians(self.means.to(device), self.whitening.to(device))


class Mahalanobis(AbstractScore):
    """Negative squared Mahalanobis distance -min_c M_c to the nearest class mean, in (-inf, 0] (arXiv 1807.03888).

    M_c(x) = (x - m_c)' S^-1 (x - m_c) with the class means m_c of the ID training images and one covariance S:

    - `pooled`: S = 1/N sum_i (x_i - m_{y_i})(x_i - m_{y_i})', as in the paper and in most libraries;
    - `mean_of_classes`: the unweighted mean of the unbiased covariances of the classes, as PLP's code has it
      (arXiv 2303.05828). Classes of equal size give the same S up to the factor n / (n - 1), and so the same order;
      otherwise a class of two images weighs here as much as one of a thousand, so `pooled` is the default.

    Computed in float64. A class without images has no mean; a class of one image has a mean and no part in S.

    Warning:
        PLP's code computes it on the *logits* of its head (`reads: logits`), not on features; MCM's code has one
        covariance of all features, without subtracting class means. The same name is several scores.

    Args:
        reads: `features` before projection, the joint `embedding`, or the `logits` (as PLP has it).
        covariance: `pooled` or `mean_of_classes`.
        ridge: added to the diagonal of S, relative to its mean, so that constant or dependent dimensions stay finite.
        labels: classes of the training images: as `given`, or `predicted` by the module's logits, which needs no labels
            (PLP's pseudo-labels under zero-shot; a pseudo-label probe gives those of its training anyway).
    """

    classes_: Gaussians | None = None

    def __init__(
        self,
        reads: Space = "features",
        covariance: Covariance = "pooled",
        ridge: float = 1e-6,
        labels: Labels = "given",
    ) -> None:
        super().__init__()
        self.labels = labels
        check_number("Mahalanobis.ridge", ridge, least=0)
        self.reads, self.covariance, self.ridge = reads, covariance, ridge
        self.needs = frozenset({reads})

    def requirements(self, around: Surroundings) -> Iterable[Requirement]:
        """Return the ID training images."""
        return (around.training_images(),)

    def fit(self, reference: Reference) -> Self:
        """Learn class means and covariance in two passes over the bank.

        Raises:
            MmoodError: the bank is empty or not finite, no class has two images, or all images are equal.
        """
        stream = _stream(reference, self.reads, self.labels)
        self.classes_ = _class_gaussians(stream, len(reference.class_names), self.covariance, self.ridge)
        return self

    def forward(self, embedded: Embedded) -> Scores:
        """Return -min_c M_c."""
        rows = double(output(embedded, self.reads))
        self.classes_ = fitted(self, self.classes_).to(rows.device)
        return -self.classes_.nearest(rows).float().to(embedded.features.device)


class RelativeMahalanobis(AbstractScore):
    """Relative Mahalanobis distance -min_c (M_c - M_0), around 0 (arXiv 2106.09022).

    M_0 is the distance from one Gaussian fitted to all ID training images without their classes; what makes any image
    unusual, whatever its class, cancels. Unchanged by invertible linear maps of the features, up to the ridge. See
    `Mahalanobis` for M_c and the arguments; the background covariance is divided by N with `pooled` and by N - 1 with
    `mean_of_classes`, so that one class alone scores 0.

    Warning:
        PLP's code computes it on the *logits* of its head (`reads: logits`), not on features.

    Args:
        reads: `features` before projection, the joint `embedding`, or the `logits` (as PLP has it).
        covariance: `pooled` or `mean_of_classes`.
        ridge: added to the diagonal of each covariance, relative to the mean of that diagonal.
        labels: classes of the training images, as `given` or `predicted`; see `Mahalanobis`.
    """

    least_classes = 2
    classes_: Gaussians | None = None
    background_: Gaussians | None = None

    def __init__(
        self,
        reads: Space = "features",
        covariance: Covariance = "pooled",
        ridge: float = 1e-6,
        labels: Labels = "given",
    ) -> None:
        super().__init__()
        self.labels = labels
        check_number("RelativeMahalanobis.ridge", ridge, least=0)
        self.reads, self.covariance, self.ridge = reads, covariance, ridge
        self.needs = frozenset({reads})

    def requirements(self, around: Surroundings) -> Iterable[Requirement]:
        """Return the ID training images."""
        return (around.training_images(),)

    def fit(self, reference: Reference) -> Self:
        """Learn class means and both covariances in four passes over the bank.

        Raises:
            MmoodError: the bank is empty or not finite, no class has two images, or all images are equal.
        """
        stream = _stream(reference, self.reads, self.labels)
        self.classes_ = _class_gaussians(stream, len(reference.class_names), self.covariance, self.ridge)
        self.background_ = _background_gaussian(stream, self.covariance, self.ridge)
        return self

    def forward(self, embedded: Embedded) -> Scores:
        """Return -min_c (M_c - M_0)."""
        rows = double(output(embedded, self.reads))
        self.classes_ = fitted(self, self.classes_).to(rows.device)
        self.background_ = fitted(self, self.background_).to(rows.device)
        relative = self.background_.nearest(rows) - self.classes_.nearest(rows)
        return relative.float().to(embedded.features.device)


def _stream(reference: Reference, reads: Space, labels: Labels) -> Stream:
    if labels == "given":
        return lambda: ((given, rows) for given, rows in bank_rows(reference, reads))
    return lambda: ((logits.argmax(dim=1), rows) for _, rows, logits in bank_rows(reference, reads, "logits"))


def _class_gaussians(stream: Stream, classes: int, covariance: Covariance, ridge: float) -> Gaussians:
    means, counts = class_means(stream, classes)
    shared = scatter(stream, means, _class_weights(counts, covariance))
    return Gaussians(means[counts > 0], whitening(shared, ridge))


def _background_gaussian(stream: Stream, covariance: Covariance, ridge: float) -> Gaussians:
    def everything() -> Iterator[tuple[Tensor, Tensor]]:
        return ((torch.zeros_like(labels), rows) for labels, rows in stream())

    mean, count = class_means(everything, 1)
    degrees = count if covariance == "pooled" else count - 1
    return Gaussians(mean, whitening(scatter(everything, mean, 1 / degrees), ridge))


def _class_weights(counts: Float[Tensor, " classes"], covariance: Covariance) -> Float[Tensor, " classes"]:
    """Return by how much an image of each class counts in the shared covariance; 0 in classes of one image."""
    usable = counts >= 2
    if not usable.any():
        raise MmoodError("No ID class has two training images, so the covariance within classes cannot be estimated.")
    left_out = int((counts == 1).sum())
    if left_out:
        log.warning("%d ID classes have one training image; they are left out of the shared covariance.", left_out)
    if covariance == "pooled":
        return usable / counts[usable].sum()
    return torch.where(usable, 1 / (usable.sum() * (counts - 1).clamp_min(1)), 0.0)
