"""Scores that average the probabilities of several classifiers: MMP and COOkeD."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from mmood.errors import MmoodError
from mmood.scores.bank import fitted
from mmood.scores.base import AbstractScore, Embedded, LinearHead, Output, Reference
from mmood.scores.functional import entropy_log_odds, max_softmax_log_odds
from mmood.scores.functional_mixtures import log_mean_softmax, mean_log_odds
from mmood.scores.stable import precise
from mmood.scores.surroundings import Surroundings, without_head
from mmood.scores.test_time.class_images import CLASS_IMAGES, ClassImages, class_proxies
from mmood.settings import check_choice, check_number
from mmood.settings.requirements import Requirement

Scores = Float[Tensor, " batch"]


class MMP(AbstractScore):
    """MMP: the mean of MCM with text prototypes and MCM with image prototypes of a few ID images.

    S = (max_c softmax_c(cos(v, t_c) / T) + max_c softmax_c(cos(v, p_c) / T)) / 2, as its log-odds; p_c is the
    normalised mean of the normalised embeddings of the class's images. It is the half of SUPREME (arXiv 2502.00662)
    that trains nothing. The temperature, and that p_c is a mean, are ours (unspecified in what is known of the paper).

    Warning:
        Cosines between images are far larger than between images and texts, so at CLIP's temperature of 0.01
        the second term saturates. The paper's temperature is not known; report which one a number has.

    Args:
        temperature: divides the cosine.
        images: the images of the ID classes.
    """

    needs: frozenset[Output] = frozenset({"embedding"})
    least_classes = 2
    texts_: Tensor | None = None
    images_: Tensor | None = None

    def __init__(self, temperature: float = 1.0, images: ClassImages = CLASS_IMAGES) -> None:
        super().__init__()
        check_number("MMP.temperature", temperature, above=0)
        self.temperature, self.images = temperature, images

    def requirements(self, around: Surroundings) -> Iterable[Requirement]:
        """Return the text encoder and the training images."""
        return (around.text_encoder(), around.training_images())

    def fit(self, reference: Reference) -> MMP:
        """Take the text prototypes, and the mean embedding of the images of each class."""
        self.texts_, self.images_ = reference.prototypes, class_proxies(reference, self.images)
        return self

    def forward(self, embedded: Embedded) -> Scores:
        """Return log S - log(1 - S)."""
        embedding = embedded.joint()
        prototypes = [fitted(self, rows).to(embedding.device) for rows in (self.texts_, self.images_)]
        odds = [max_softmax_log_odds(precise(embedding @ rows.T), self.temperature) for rows in prototypes]
        return mean_log_odds(odds, [1.0, 1.0]).float()


class COOkeD(AbstractScore):
    """COOkeD: one softmax that averages those of three classifiers (ICCV-W 2025, arXiv 2507.22576).

    q = (q_zero-shot + q_probe + q_closed) / 3: the softmax of the cosines with the text prototypes, of a linear probe
    on the embedding, and of a closed-world classifier, here a linear head on the features before the projection (the
    paper takes any network trained on the ID classes). Both heads are those of a probe with `grid.reads: [features,
    embedding]`. The score is the largest q_c, as its log-odds, or the negative entropy of q.

    Args:
        temperature: divides the cosines of the zero-shot classifier; 0.01 is CLIP's scale of 100.
        criterion: `max` for the largest probability, `entropy` for the negative entropy (as `Entropy` returns it).
    """

    needs: frozenset[Output] = frozenset({"embedding"})
    least_classes = 2
    prototypes_: Tensor | None = None
    probe_: LinearHead | None = None
    closed_: LinearHead | None = None

    def __init__(self, temperature: float = 0.01, criterion: Literal["max", "entropy"] = "max") -> None:
        super().__init__()
        check_number("COOkeD.temperature", temperature, above=0)
        check_choice("COOkeD.criterion", criterion, ("max", "entropy"))
        self.temperature, self.criterion = temperature, criterion

    def requirements(self, around: Surroundings) -> Iterable[Requirement]:
        """Return the text encoder and the two heads."""
        return (around.text_encoder(), around.heads("COOkeD", "embedding", "features"))

    def fit(self, reference: Reference) -> COOkeD:
        """Take the text prototypes and the heads.

        Raises:
            MmoodError: the module has no head on the embedding, or none on the features.
        """
        heads = {head.reads: head for head in reference.heads()}
        for reads in ("embedding", "features"):
            if reads not in heads:
                raise MmoodError(without_head("COOkeD", reads))
        self.prototypes_, self.probe_, self.closed_ = reference.prototypes, heads["embedding"], heads["features"]
        return self

    def forward(self, embedded: Embedded) -> Scores:
        """Return log S - log(1 - S) of the largest probability S, or the negative entropy on `Entropy`'s scale."""
        embedding = embedded.joint()
        prototypes = fitted(self, self.prototypes_).to(embedding.device)
        heads = [fitted(self, head).to(embedding.device) for head in (self.probe_, self.closed_)]
        rows = {"embedding": embedding, "features": embedded.features}
        logits = [embedding @ prototypes.T / self.temperature, *(head.logits(rows[head.reads]) for head in heads)]
        mean = log_mean_softmax([precise(one) for one in logits])
        return (max_softmax_log_odds(mean) if self.criterion == "max" else entropy_log_odds(mean)).float()
