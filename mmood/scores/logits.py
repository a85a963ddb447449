"""Scores that read nothing but the logits of the module.

They compute in float64 and round once at the end: on raw cosines at temperature 1 the probabilities are so nearly
uniform that float32 arithmetic would leave a few hundred distinct values, and ties change the metrics. Scores of one
temperature share the softmax of a batch, so that its exponentials are computed once.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from mmood.scores import functional
from mmood.scores.base import AbstractScore, Embedded
from mmood.settings import check_count, check_number

Scores = Float[Tensor, " batch"]


class MCM(AbstractScore):
    """Maximum concept matching: max_c softmax_c(cos / T), returned as its log-odds (arXiv 2211.13445).

    On the logits of a trained head the same score is known as MSP (arXiv 1610.02136).

    Warning:
        CLIP's own scale of 100 is a temperature of 0.01, not 1: another score, 6 to 8 points of AUROC away on ImageNet.

    Args:
        temperature: divides the cosine (or the logit of a head); 1 as in the paper.
    """

    least_classes = 2

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__()
        check_number(f"{type(self).__name__}.temperature", temperature, above=0)
        self.temperature = temperature

    def forward(self, embedded: Embedded) -> Scores:
        """Return log p - log(1 - p) of the largest softmax probability p."""
        return embedded.softmax(self.temperature).log_odds.float()


class MaxLogit(AbstractScore):
    """Largest logit: the largest cosine for text prototypes (arXiv 1911.11132)."""

    def forward(self, embedded: Embedded) -> Scores:
        """Return the largest logit."""
        return functional.max_logit(embedded.logits)


class Energy(AbstractScore):
    """Negative free energy T * logsumexp_c(cos / T), on the scale of the logits (arXiv 2010.03759).

    Warning:
        At temperature 1 the energy of raw cosines is little more than their mean; 0.01 is CLIP's scale.

    Args:
        temperature: divides the cosine (or the logit of a head).
    """

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__()
        check_number(f"{type(self).__name__}.temperature", temperature, above=0)
        self.temperature = temperature

    def forward(self, embedded: Embedded) -> Scores:
        """Return T * logsumexp_c(logit_c / T)."""
        return (self.temperature * embedded.softmax(self.temperature).log_sum_exp).float()


class Entropy(AbstractScore):
    """Negative Shannon entropy of softmax(cos / T), as the log-odds of the share 1 - H / log C.

    The order is that of -H; the log-odds keep apart both nearly uniform and nearly certain images in float32.

    Warning:
        At temperature 1 on raw cosines, the entropies of 1,000 classes differ in the fourth digit only. Where
        they were computed in float32 or half precision, images tie.

    Args:
        temperature: divides the cosine (or the logit of a head).
    """

    least_classes = 2

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__()
        check_number(f"{type(self).__name__}.temperature", temperature, above=0)
        self.temperature = temperature

    def forward(self, embedded: Embedded) -> Scores:
        """Return log(log C - H) - log H; 0 with one class, which has no entropy to compare."""
        return functional.entropy_share_log_odds(embedded.softmax(self.temperature)).float()


class SoftmaxVariance(AbstractScore):
    """Variance over the classes of softmax(cos / T) (a baseline of arXiv 2211.13445).

    Args:
        temperature: divides the cosine (or the logit of a head).
    """

    least_classes = 2

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__()
        check_number(f"{type(self).__name__}.temperature", temperature, above=0)
        self.temperature = temperature

    def forward(self, embedded: Embedded) -> Scores:
        """Return the variance of the probabilities."""
        return functional.variance_of(embedded.softmax(self.temperature)).float()

    def objective(self, embedded: Embedded) -> Scores:
        """Return the log-odds of the variance among its possible values."""
        return functional.variance_log_odds(embedded.softmax(self.temperature)).float()


class GEN(AbstractScore):
    """Negative generalised entropy of softmax(cos / T), counted from that of the uniform distribution.

    GEN is -sum_c (p_c (1 - p_c))^gamma over the `top` largest probabilities (Liu et al., CVPR 2023); the score adds the
    constant that makes the uniform distribution 0, which keeps small differences in float32.

    Args:
        temperature: divides the cosine (or the logit of a head).
        gamma: exponent in (0, 1]; 0.1 as in the paper.
        top: sum over this many largest probabilities (100 in the paper for 1,000 classes); None for all.
    """

    least_classes = 2

    def __init__(self, temperature: float = 1.0, gamma: float = 0.1, top: int | None = None) -> None:
        super().__init__()
        check_number("GEN.temperature", temperature, above=0)
        check_number("GEN.gamma", gamma, above=0)
        check_count("GEN.top", top, null="all classes")
        self.temperature, self.gamma, self.top = temperature, gamma, top

    def forward(self, embedded: Embedded) -> Scores:
        """Return GEN minus GEN of the uniform distribution."""
        classes = embedded.logits.shape[-1]
        uniform = min(self.top or classes, classes) * (1 / classes * (1 - 1 / classes)) ** self.gamma
        entropy = functional.gen_of(embedded.softmax(self.temperature), self.gamma, self.top)
        return torch.add(entropy, uniform).float()

    def objective(self, embedded: Embedded) -> Scores:
        """Return -log of the generalised entropy, which goes on rising where the entropy goes to 0."""
        entropy = functional.gen_of(embedded.softmax(self.temperature), self.gamma, self.top)
        return -(-entropy).log().float()


class Margin(AbstractScore):
    """Gap between the largest and the second largest logit."""

    least_classes = 2

    def forward(self, embedded: Embedded) -> Scores:
        """Return the gap."""
        return functional.margin(embedded.logits)
