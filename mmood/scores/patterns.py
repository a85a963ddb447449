"""Scores by a stored pattern of each class: SHE on features, KL-matching on probabilities."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Self

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mmood.scores.bank import bank_rows, double, fitted, output
from mmood.scores.base import AbstractScore, Embedded, Reference, Stored
from mmood.scores.functional_gaussian import class_means
from mmood.scores.surroundings import Surroundings
from mmood.settings import check_number
from mmood.settings.requirements import Requirement

Scores = Float[Tensor, " batch"]


def she(
    rows: Float[Tensor, "batch features"],
    logits: Float[Tensor, "batch classes"],
    patterns: Float[Tensor, "classes features"],
    present: Bool[Tensor, " classes"],
) -> Scores:
    """Return <x, pattern of the predicted class>, the simplified Hopfield energy (Zhang et al., ICLR 2023).

    The class is predicted among those that have a pattern.

    Args:
        rows: (B, F) x.
        logits: (B, C).
        patterns: (C, F).
        present: (C,), whether a class has a pattern; at least one has.

    >>> patterns, present = torch.tensor([[1.0], [2.0]]), torch.tensor([True, True])
    >>> she(torch.tensor([[3.0]]), torch.tensor([[0.0, 1.0]]), patterns, present)
    tensor([6.])
    """
    predicted = logits.masked_fill(~present, -torch.inf).argmax(dim=1)
    return (rows * patterns[predicted]).sum(dim=1)


def kl_matching(log_p: Float[Tensor, "batch classes"], log_templates: Float[Tensor, "templates classes"]) -> Scores:
    """Return -min_k KL(p || d_k), in (-inf, 0] (arXiv 1911.11132).

    Args:
        log_p: (B, C) log-probabilities.
        log_templates: (K, C) log of the templates d, finite.

    >>> half = torch.tensor([[0.5, 0.5]]).log()
    >>> kl_matching(half, half) + 0.0
    tensor([0.])
    """
    p = log_p.exp()
    # A class at probability 0 adds nothing; 0 * -inf would be NaN.
    negative_entropy = (p * log_p.clamp_min(torch.finfo(log_p.dtype).min)).sum(dim=1)
    return (p @ log_templates.T).amax(dim=1) - negative_entropy


class SHE(AbstractScore):
    """Simplified Hopfield energy: <x, pattern of the predicted class> (Zhang et al., ICLR 2023).

    A class's pattern is the mean of its ID training images that the module classifies right; where it classifies none
    right, of all its images; a class without images has none and is not predicted. On the scale of the squared
    features.

    Args:
        reads: `features` before projection or the joint `embedding`; not normalised.
    """

    patterns_: Tensor | None = None
    present_: Tensor | None = None

    def __init__(self, reads: Stored = "features") -> None:
        super().__init__()
        self.reads = reads
        self.needs = frozenset({reads, "logits"})

    def requirements(self, around: Surroundings) -> Iterable[Requirement]:
        """Return the ID training images."""
        return (around.training_images(),)

    def fit(self, reference: Reference) -> Self:
        """Learn the patterns in two passes over the bank.

        Raises:
            MmoodError: the bank is empty or not finite, or there is no embedding to read.
        """

        def right() -> Iterator[tuple[Tensor, Tensor]]:
            for labels, rows, logits in bank_rows(reference, self.reads, "logits"):
                correct = logits.argmax(dim=1) == labels
                yield labels[correct], rows[correct]

        def every() -> Iterator[tuple[Tensor, Tensor]]:
            return ((labels, rows) for labels, rows in bank_rows(reference, self.reads))

        classes = len(reference.class_names)
        means, counts = class_means(every, classes)
        right_means, right_counts = class_means(right, classes)
        self.patterns_ = torch.where(right_counts[:, None] > 0, right_means, means).float()
        self.present_ = counts > 0
        return self

    def forward(self, embedded: Embedded) -> Scores:
        """Return the inner product with the pattern of the predicted class."""
        device = embedded.logits.device
        self.patterns_, self.present_ = fitted(self, self.patterns_).to(device), fitted(self, self.present_).to(device)
        return she(output(embedded, self.reads), embedded.logits, self.patterns_, self.present_)


class KLMatching(AbstractScore):
    """Negative Kullback-Leibler divergence from the nearest class template, -min_k KL(p || d_k) (arXiv 1911.11132).

    p = softmax(logits / T); d_k is the mean of p over the ID images that are *predicted* as class k: no labels are
    used, and a class that is never predicted has no template.

    Warning:
        The paper takes ID validation images, this the training bank: with a head trained on that bank to the
        end its templates are too sharp.

    Args:
        temperature: divides the cosine (or the logit of a head).
    """

    least_classes = 2
    log_templates_: Tensor | None = None

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__()
        check_number("KLMatching.temperature", temperature, above=0)
        self.temperature = temperature

    def requirements(self, around: Surroundings) -> Iterable[Requirement]:
        """Return the ID training images."""
        return (around.training_images(),)

    def fit(self, reference: Reference) -> Self:
        """Learn the templates in one pass over the bank.

        Raises:
            MmoodError: the bank is empty or not finite.
        """

        def predictions() -> Iterator[tuple[Tensor, Tensor]]:
            for _, logits in bank_rows(reference, "logits"):
                yield logits.argmax(dim=1), (logits.double() / self.temperature).softmax(dim=1)

        templates, counts = class_means(predictions, len(reference.class_names))
        # A probability that underflowed would make the divergence infinite.
        self.log_templates_ = templates[counts > 0].clamp_min(torch.finfo(torch.float64).tiny).log()
        return self

    def forward(self, embedded: Embedded) -> Scores:
        """Return -min_k KL(p || d_k)."""
        log_p = (double(embedded.logits) / self.temperature).log_softmax(dim=1)
        self.log_templates_ = fitted(self, self.log_templates_).to(log_p.device)
        return kl_matching(log_p, self.log_templates_).float().to(embedded.logits.device)
