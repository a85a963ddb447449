"""Scores on local features: GL-MCM and L-MCM."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable

from jaxtyping import Float
from torch import Tensor

from mmood.scores.bank import fitted
from mmood.scores.base import AbstractScore, Embedded, Output, Reference
from mmood.scores.functional import max_softmax_log_odds
from mmood.scores.functional_local import patch_log_odds
from mmood.scores.functional_mixtures import mean_log_odds
from mmood.scores.stable import precise
from mmood.scores.surroundings import Surroundings
from mmood.settings import check_number
from mmood.settings.requirements import Requirement

Scores = Float[Tensor, " batch"]


class AbstractLocalScore(AbstractScore):
    """A score that also says where in an image it comes from: it has a map."""

    @abstractmethod
    def patch_scores(self, embedded: Embedded) -> Float[Tensor, "batch patches"]:
        """Return the score of each patch, higher = more in-distribution, row by row of `AbstractEncoder.patch_grid`.

        The scale is one for all images, so that maps can be compared.
        """


class LMCM(AbstractLocalScore):
    """L-MCM: the largest softmax probability of a class in any patch, max_{r,c} softmax_c(cos(v_r, t_c) / T).

    Returned as its log-odds. From "GL-MCM" (IJCV 2025, arXiv 2304.04521). The map has those of max_c in each patch.

    Args:
        temperature: divides the cosine; 1 as in the paper.
    """

    needs: frozenset[Output] = frozenset({"patches"})
    least_classes = 2
    prototypes_: Tensor | None = None

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__()
        check_number("LMCM.temperature", temperature, above=0)
        self.temperature = temperature

    def requirements(self, around: Surroundings) -> Iterable[Requirement]:
        """Return the text encoder."""
        return (around.text_encoder(),)

    def fit(self, reference: Reference) -> LMCM:
        """Take the text prototypes of the ID classes."""
        self.prototypes_ = reference.prototypes
        return self

    def patch_scores(self, embedded: Embedded) -> Float[Tensor, "batch patches"]:
        """Return the log-odds of max_c softmax_c(cos(v_r, t_c) / T) of each patch r."""
        patches = embedded.local()
        return patch_log_odds(patches, fitted(self, self.prototypes_).to(patches.device), self.temperature).float()

    def forward(self, embedded: Embedded) -> Scores:
        """Return the largest of the patches' log-odds."""
        return self.patch_scores(embedded).amax(dim=1)


class GLMCM(AbstractLocalScore):
    """GL-MCM: S_G + lambda S_L, MCM of the image plus L-MCM of its patches (IJCV 2025, arXiv 2304.04521).

    S_G = max_c softmax_c(cos(v, t_c) / T), S_L = max_{r,c} softmax_c(cos(v_r, t_c) / T). Returned as the log-odds of
    the weighted mean (S_G + lambda S_L) / (1 + lambda), which orders images as the sum does; with lambda = 0 it is MCM.
    The map is that of L-MCM.

    Warning:
        Patches are not stored, so this score reads images even where features are at hand.

    Args:
        temperature: divides the cosine; 1 as in the paper.
        local_weight: lambda; 1 is the default of the released code, whose ImageNet runs set 0.5.
    """

    needs: frozenset[Output] = frozenset({"embedding", "patches"})
    least_classes = 2
    prototypes_: Tensor | None = None

    def __init__(self, temperature: float = 1.0, local_weight: float = 1.0) -> None:
        super().__init__()
        check_number("GLMCM.temperature", temperature, above=0)
        check_number("GLMCM.local_weight", local_weight, least=0)
        self.temperature, self.local_weight = temperature, local_weight

    def requirements(self, around: Surroundings) -> Iterable[Requirement]:
        """Return the text encoder."""
        return (around.text_encoder(),)

    def fit(self, reference: Reference) -> GLMCM:
        """Take the text prototypes of the ID classes."""
        self.prototypes_ = reference.prototypes
        return self

    def patch_scores(self, embedded: Embedded) -> Float[Tensor, "batch patches"]:
        """Return the log-odds of max_c softmax_c(cos(v_r, t_c) / T) of each patch r."""
        return self._local(embedded).float()

    def forward(self, embedded: Embedded) -> Scores:
        """Return the log-odds of (S_G + lambda S_L) / (1 + lambda)."""
        embedding = embedded.joint()
        cosines = embedding @ fitted(self, self.prototypes_).to(embedding.device).T
        whole = max_softmax_log_odds(precise(cosines), self.temperature)
        return mean_log_odds([whole, self._local(embedded).amax(dim=1)], [1.0, self.local_weight]).float()

    def _local(self, embedded: Embedded) -> Float[Tensor, "batch patches"]:
        patches = embedded.local()
        return patch_log_odds(patches, fitted(self, self.prototypes_).to(patches.device), self.temperature)
