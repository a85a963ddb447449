"""Energy of the logits that a linear head gives for shaped features: ReAct, ASH, SCALE.

The module must have a linear head on the features (a probe, not text prototypes), and the features should not be
negative: see `functional_activations` on what happens to the signed features of a ViT.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, Self

from jaxtyping import Float
from torch import Tensor

from mmood.scores import functional
from mmood.scores.bank import bank_rows, double, feature_head, fitted
from mmood.scores.base import AbstractScore, Embedded, LinearHead, Reference
from mmood.scores.functional_activations import (
    ash_b,
    ash_p,
    ash_s,
    clip_activations,
    percentile_of,
    scale_activations,
)
from mmood.scores.surroundings import Surroundings
from mmood.settings import check_choice, check_number
from mmood.settings.requirements import Requirement

Scores = Float[Tensor, " batch"]

ASH_VARIANTS = {"s": ash_s, "b": ash_b, "p": ash_p}
ASH_PERCENTILES = {"s": 90.0, "b": 65.0, "p": 60.0}


class ReAct(AbstractScore):
    """Energy T logsumexp(logits / T) of features clipped from above (arXiv 2111.12797).

    Warning:
        Made for features after a ReLU, which are never negative. Those of a ViT have both signs: the formula
        can be computed, but its reason does not hold, and published numbers of ASH on ViT-B/16 are near chance.

    Args:
        percentile: the threshold is this percentile of all features of all ID training images, exact; 90 in the paper.
        temperature: divides the logits.
    """

    head_: LinearHead | None = None
    threshold_: float = float("inf")

    def __init__(self, percentile: float = 90.0, temperature: float = 1.0) -> None:
        super().__init__()
        _check("ReAct", percentile, temperature)
        self.percentile, self.temperature = percentile, temperature
        self.needs = frozenset({"features"})

    def requirements(self, around: Surroundings) -> Iterable[Requirement]:
        """Return the ID training images, and the head on features."""
        return (around.training_images(), around.feature_head())

    def fit(self, reference: Reference) -> Self:
        """Take the head and learn the threshold in two passes over the bank.

        Raises:
            MmoodError: the module has no head on features, or the bank is empty or not finite.
        """
        self.head_ = feature_head(reference)
        self.threshold_ = percentile_of(lambda: (rows for _, rows in bank_rows(reference, "features")), self.percentile)
        return self

    def forward(self, embedded: Embedded) -> Scores:
        """Return the energy of the clipped features."""
        self.head_ = fitted(self, self.head_).to(embedded.features.device)
        return _energy(self.head_, clip_activations(embedded.features, self.threshold_), self.temperature)


class ASH(AbstractScore):
    """Energy T logsumexp(logits / T) of pruned features (arXiv 2209.09858).

    All variants keep only the largest features of an image: `p` as they are, `b` all set to one size with the sum of
    all features, `s` times exp(sum before / sum after).

    Warning:
        Made for features after a ReLU, which are never negative. Those of a ViT have both signs: the formula
        can be computed, but its reason does not hold, and published numbers of ASH on ViT-B/16 are near chance.

    Args:
        variant: `s`, `b` or `p`.
        percentile: share of the features that are pruned, in per cent; None for the paper's on ImageNet: 90 for `s`, 65
            for `b`, 60 for `p`.
        temperature: divides the logits.
    """

    head_: LinearHead | None = None

    def __init__(
        self, variant: Literal["s", "b", "p"] = "s", percentile: float | None = None, temperature: float = 1.0
    ) -> None:
        super().__init__()
        check_choice("ASH.variant", variant, ASH_VARIANTS)
        self.variant = variant
        self.percentile = ASH_PERCENTILES[variant] if percentile is None else percentile
        self.temperature = temperature
        _check("ASH", self.percentile, temperature)
        self.needs = frozenset({"features"})

    def requirements(self, around: Surroundings) -> Iterable[Requirement]:
        """Return the head on features."""
        return (around.feature_head(),)

    def fit(self, reference: Reference) -> Self:
        """Take the head.

        Raises:
            MmoodError: the module has no head on features.
        """
        self.head_ = feature_head(reference)
        return self

    def details(self) -> dict[str, object]:
        """Return the percentile, the paper's where none is set."""
        return {"percentile": self.percentile}

    def forward(self, embedded: Embedded) -> Scores:
        """Return the energy of the pruned features."""
        self.head_ = fitted(self, self.head_).to(embedded.features.device)
        return _energy(self.head_, ASH_VARIANTS[self.variant](embedded.features, self.percentile), self.temperature)


class SCALE(AbstractScore):
    """Energy T logsumexp(logits / T) of scaled features (arXiv 2310.00227).

    All features of an image are multiplied by exp(sum of all / sum of the largest); none is pruned.

    Warning:
        Made for features after a ReLU, which are never negative. Those of a ViT have both signs: the formula
        can be computed, but its reason does not hold, and published numbers of ASH on ViT-B/16 are near chance.

    Args:
        percentile: share of the features that are not among the largest, in per cent; 85 in the paper.
        temperature: divides the logits.
    """

    head_: LinearHead | None = None

    def __init__(self, percentile: float = 85.0, temperature: float = 1.0) -> None:
        super().__init__()
        _check("SCALE", percentile, temperature)
        self.percentile, self.temperature = percentile, temperature
        self.needs = frozenset({"features"})

    def requirements(self, around: Surroundings) -> Iterable[Requirement]:
        """Return the head on features."""
        return (around.feature_head(),)

    def fit(self, reference: Reference) -> Self:
        """Take the head.

        Raises:
            MmoodError: the module has no head on features.
        """
        self.head_ = feature_head(reference)
        return self

    def forward(self, embedded: Embedded) -> Scores:
        """Return the energy of the scaled features."""
        self.head_ = fitted(self, self.head_).to(embedded.features.device)
        return _energy(self.head_, scale_activations(embedded.features, self.percentile), self.temperature)


def _energy(head: LinearHead, shaped: Float[Tensor, "batch features"], temperature: float) -> Scores:
    logits = head.logits(shaped)
    return functional.energy(double(logits), temperature).float().to(shaped.device)


def _check(name: str, percentile: float, temperature: float) -> None:
    check_number(f"{name}.percentile", percentile, least=0, below=100)
    check_number(f"{name}.temperature", temperature, above=0)
