"""Scores for towers that were trained with a sigmoid for each pair of image and text (SigLIP)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from jaxtyping import Float
from torch import Tensor

from mmood.encoders.base import AbstractEncoder
from mmood.encoders.vision_language import with_texts
from mmood.errors import MmoodError
from mmood.scores.bank import fitted
from mmood.scores.base import AbstractScore, Embedded, Output, Reference
from mmood.scores.functional import noisy_or_log_odds
from mmood.scores.stable import precise
from mmood.scores.surroundings import Surroundings
from mmood.settings.requirements import Requirement

Scores = Float[Tensor, " batch"]


def sigmoid_of(encoder: AbstractEncoder) -> tuple[float, float]:
    """Return scale and bias of a model that was trained with a sigmoid for each pair.

    Raises:
        MmoodError: it has no logit bias, or one of exactly 0, which open_clip sets where a checkpoint has none.
    """
    model = with_texts(encoder)
    scale, bias = float(model.logit_scale.detach()), None if model.logit_bias is None else model.logit_bias.item()
    if not bias:
        raise MmoodError(
            f"'{encoder.settings.name}' has {'no logit bias' if bias is None else 'a logit bias of 0'}, so "
            "it was not trained with a sigmoid for each pair of image and text; use a SigLIP model, or scores on the "
            "softmax such as MCM."
        )
    return scale, bias


@dataclass(frozen=True)
class SigmoidTexts:
    """What turns an embedding into the logits of a sigmoid model, l_c = s cos(v, t_c) + b.

    Attributes:
        prototypes: (C, D) of the ID names.
        scale: s, already exponentiated.
        bias: b.
    """

    prototypes: Float[Tensor, "classes dim"]
    scale: float
    bias: float

    def logits(self, embedded: Embedded) -> Float[Tensor, "batch classes"]:
        """Return l_c, computed in float64 from float32 cosines."""
        embedding = embedded.joint()
        return self.scale * precise(embedding @ self.prototypes.to(embedding.device).T) + self.bias


class AbstractSigmoid(AbstractScore):
    """What the scores of sigmoid towers share: all but what they make of the logits."""

    needs: frozenset[Output] = frozenset({"embedding"})
    texts_: SigmoidTexts | None = None

    def requirements(self, around: Surroundings) -> Iterable[Requirement]:
        """Return the text encoder and its logit bias."""
        return (around.text_encoder(), Requirement("logit bias", lambda: f"{sigmoid_of(around.encoder)[1]:.4g}"))

    def fit(self, reference: Reference) -> Self:
        """Take the text prototypes, and the scale and bias that the model has learned.

        Raises:
            MmoodError: the model has no logit bias, or one of 0.
        """
        self.texts_ = SigmoidTexts(reference.prototypes, *sigmoid_of(reference.encoder))
        return self

    def details(self) -> dict[str, object]:
        """Return, after `fit`, scale and bias."""
        return {} if self.texts_ is None else {"logit_scale": self.texts_.scale, "logit_bias": self.texts_.bias}


class SigmoidMax(AbstractSigmoid):
    """Largest probability of a class, max_c sigmoid(s cos(v, t_c) + b), as its log-odds (sigmoid towers: SigLIP).

    It orders images as the largest cosine does; scale and bias are the model's own.

    Warning:
        It orders images as `MaxLogit` does, so AUROC and FPR95 are the same: it is another scale, not another
        detector.
    """

    def forward(self, embedded: Embedded) -> Scores:
        """Return max_c (s cos + b)."""
        return fitted(self, self.texts_).logits(embedded).amax(dim=-1).float()


class NoisyOr(AbstractSigmoid):
    """Probability that any class is present, 1 - prod_c (1 - sigmoid(s cos(v, t_c) + b)), as its log-odds.

    The classes are taken as independent; scale and bias are the model's own (sigmoid towers: SigLIP).
    """

    def forward(self, embedded: Embedded) -> Scores:
        """Return log S - log(1 - S)."""
        return noisy_or_log_odds(fitted(self, self.texts_).logits(embedded)).float()
