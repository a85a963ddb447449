"""Scores by what of an image lies outside of the principal subspace of the ID training images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor

from mmood.errors import MmoodError
from mmood.scores.bank import bank_rows, double, feature_head, fitted, output, stored
from mmood.scores.base import AbstractScore, Embedded, Reference, Stored
from mmood.scores.functional_gaussian import scatter
from mmood.scores.functional_subspace import default_dimension, head_origin, null_basis, residual_norm, vim
from mmood.scores.surroundings import Surroundings
from mmood.settings import check_count, check_number
from mmood.settings.requirements import Requirement

Scores = Float[Tensor, " batch"]


@dataclass(frozen=True)
class Subspace:
    """A principal subspace, in float64.

    Attributes:
        origin: (F,), a point of it.
        basis: (F, F - dimension), orthonormal, of all that is orthogonal to it.
    """

    origin: Float[Tensor, " features"]
    basis: Float[Tensor, "features rest"]

    def residual(self, rows: Float[Tensor, "batch features"]) -> Scores:
        """Return the distance of each row from the subspace, (B,) float64."""
        return residual_norm(rows, self.origin, self.basis)

    def to(self, device: torch.device) -> Subspace:
        """Return the subspace on a device."""
        return Subspace(self.origin.to(device), self.basis.to(device))


class Residual(AbstractScore):
    """Negative distance from the principal subspace of the ID training images, in (-inf, 0] (arXiv 2203.10807).

    -||R'(x - o)||, with R a basis orthogonal to the leading eigenvectors of the second moment of x - o. The origin o is
    -pinv(W) b of the head that reads these rows; for embeddings before text prototypes, which have no bias, it is 0.

    Args:
        reads: `features` (the module must have a head on them) or the joint `embedding`.
        dimension: of the principal subspace, below F; None for ViM's choice: 1000 from F = 2048 on, 512 from 768, else
            F / 2.
    """

    subspace_: Subspace | None = None

    def __init__(self, reads: Stored = "features", dimension: int | None = None) -> None:
        super().__init__()
        check_count("Residual.dimension", dimension, null="ViM's choice")
        self.reads, self.dimension = reads, dimension
        self.needs = frozenset({reads})

    def requirements(self, around: Surroundings) -> Iterable[Requirement]:
        """Return the ID training images, and the head on features if it reads those."""
        return (around.training_images(), *([around.feature_head()] if self.reads == "features" else []))

    def fit(self, reference: Reference) -> Self:
        """Learn the subspace in one pass over the bank.

        Raises:
            MmoodError: the bank is empty or not finite, the module has no head on features, or the dimension is not
                below that of the features.
        """
        self.subspace_ = _subspace(reference, self.reads, self.dimension)
        return self

    def forward(self, embedded: Embedded) -> Scores:
        """Return the negative residual."""
        rows = double(output(embedded, self.reads))
        self.subspace_ = fitted(self, self.subspace_).to(rows.device)
        return -self.subspace_.residual(rows).float().to(embedded.features.device)


class ViM(AbstractScore):
    """Virtual-logit matching: logsumexp(logits / T) - alpha * residual (arXiv 2203.10807).

    The residual is that of `Residual`; alpha = mean max logit / mean residual over the ID training images, so that the
    virtual logit is as large as theirs. The paper's probability is in the same order.

    Args:
        reads: `features` (the module must have a head on them) or the joint `embedding`.
        dimension: of the principal subspace; None for ViM's choice, see `Residual`.
        temperature: divides the logits; for raw cosines CLIP's is 0.01. At 1 their logsumexp hardly varies, and the
            residual alone decides.
    """

    subspace_: Subspace | None = None
    alpha_: float = 0.0

    def __init__(self, reads: Stored = "features", dimension: int | None = None, temperature: float = 1.0) -> None:
        super().__init__()
        check_number("ViM.temperature", temperature, above=0)
        check_count("ViM.dimension", dimension, null="ViM's choice")
        self.reads, self.dimension, self.temperature = reads, dimension, temperature
        self.needs = frozenset({reads, "logits"})

    def requirements(self, around: Surroundings) -> Iterable[Requirement]:
        """Return the ID training images, and the head on features if it reads those."""
        return (around.training_images(), *([around.feature_head()] if self.reads == "features" else []))

    def fit(self, reference: Reference) -> Self:
        """Learn subspace and alpha in two passes over the bank.

        Raises:
            MmoodError: as in `Residual.fit`, or the training images have no residual to match.
        """
        self.subspace_ = _subspace(reference, self.reads, self.dimension)
        largest = residual = length = 0.0
        for _, rows, logits in bank_rows(reference, self.reads, "logits"):
            largest += float(logits.double().amax(dim=1).sum()) / self.temperature
            residual += float(self.subspace_.residual(rows.double()).sum())
            length += float((rows.double() - self.subspace_.origin).norm(dim=1).sum())
        if residual <= 1e-9 * length:
            raise MmoodError(
                f"The {self.reads} of the ID training images lie in their principal subspace, so the residual is 0; "
                f"ViM.dimension is {self.dimension}, choose a smaller one."
            )
        self.alpha_ = largest / residual
        return self

    def forward(self, embedded: Embedded) -> Scores:
        """Return energy minus alpha times residual."""
        rows = double(output(embedded, self.reads))
        self.subspace_ = fitted(self, self.subspace_).to(rows.device)
        logits = double(embedded.logits) / self.temperature
        return vim(self.subspace_.residual(rows), logits, self.alpha_).float().to(embedded.features.device)


def _origin(reference: Reference, on: Stored) -> Float[Tensor, " dim"]:
    """Return where the logits of the head that reads this space are all 0; 0 where no trained head reads it."""
    head = feature_head(reference) if on == "features" else reference.head()
    if head is None or head.reads != on:
        return torch.zeros(stored(reference.bank(), on).shape[1], dtype=torch.float64)
    return head_origin(head.weight.double().cpu(), head.bias.double().cpu())


def _subspace(reference: Reference, on: Stored, dimension: int | None) -> Subspace:
    origin = _origin(reference, on)
    width = len(origin)
    dimension = default_dimension(width) if dimension is None else dimension
    if not 0 < dimension < width:
        raise MmoodError(f"The dimension of the principal subspace is {dimension}; it must be in [1, {width - 1}].")

    def stream() -> Iterator[tuple[Tensor, Tensor]]:
        return ((torch.zeros_like(labels), rows) for labels, rows in bank_rows(reference, on))

    # One class, centred at the origin; the eigenvectors do not depend on the weight of an image.
    moment = scatter(stream, origin[None], torch.ones(1, dtype=torch.float64))
    return Subspace(origin, null_basis(moment, dimension))
