"""ID-like prompts: crops of ID images that do not show their class stand for OoD."""

from __future__ import annotations

from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from mmood.errors import MmoodError
from mmood.modules.prompt_learning.context import ContextSettings
from mmood.modules.prompt_learning.method import AbstractPromptMethod, Texts, TextSide, Views, families_of
from mmood.prompts import PromptFamily, Role
from mmood.prompts.family import Layout
from mmood.settings import check_count, check_number

_CONTEXT = ContextSettings()


@final
class IDLike(AbstractPromptMethod):
    """ID-like (arXiv 2311.15243): OoD prompts, trained on the crops least like their class; score: `IDLikeScore`.

    Specified from copies of the official code, which is no longer online.

    Args:
        context: of the ID prompts. OoD prompts have one vector more, which stands for a name.
        negatives: N, OoD prompts.
        crops: of each image, ranked by their cosine with "a photo of a {name}.".
        kept: the best and the worst of them that are trained on: ID and ID-like OoD examples.
        ood_weight: of the ID mass of OoD crops.
        diversity_weight: of the cosines between OoD prompts.
        bounded: minimise -log(1 - P_ID) of OoD crops (ours) instead of log P_ID, which has no lower bound.
    """

    crop_template = "a photo of a {}."

    def __init__(
        self,
        context: ContextSettings = _CONTEXT,
        negatives: int = 100,
        crops: int = 256,
        kept: int = 32,
        ood_weight: float = 0.3,
        diversity_weight: float = 0.2,
        bounded: bool = False,
    ) -> None:
        super().__init__()
        check_count("IDLike.negatives", negatives)
        check_count("IDLike.crops", crops, least=2)
        check_count("IDLike.kept", kept)
        if 2 * kept > crops:
            raise MmoodError(f"IDLike.kept is {kept}, but there are {crops} crops; it can be half of them at most.")
        check_number("IDLike.ood_weight", ood_weight, least=0)
        check_number("IDLike.diversity_weight", diversity_weight, least=0)
        self.context = context
        self.negatives = negatives
        self.crops = crops
        self.kept = kept
        self.ood_weight = ood_weight
        self.diversity_weight = diversity_weight
        self.bounded = bounded

    def build(self, side: TextSide, seed: int) -> None:
        """Make the ID context and the OoD prompts."""
        contexts = self.context.contexts(len(side.class_names))
        positive = side.context(self.context, self.context.layout(), contexts, (seed, 0))
        named = ContextSettings(self.context.tokens + 1)
        negative = side.context(named, Layout("none", "."), self.negatives, (seed, 1))
        self.contexts = nn.ModuleDict({"positive": positive, "negative": negative})

    def texts(self, side: TextSide, views: Views, generator: torch.Generator) -> Texts:
        """Return ID and OoD prompts."""
        return side.encode_all(self.contexts)

    def loss(self, views: Views, texts: Texts, scale: Float[Tensor, ""], step: int) -> Float[Tensor, ""]:
        """Return CE of the ID crops + ood_weight * L_ood + diversity_weight * L_div."""
        both = scale * torch.cat([texts["positive"], texts["negative"]])
        inside, outside = views.embedding[:, : self.kept] @ both.T, views.embedding[:, -self.kept :] @ both.T
        classes = len(texts["positive"])
        images = functional.cross_entropy(inside.flatten(0, 1), views.label.repeat_interleave(self.kept))
        crops = id_mass(outside.flatten(0, 1), classes, self.bounded)
        return images + self.ood_weight * crops + self.diversity_weight * diversity(texts["negative"])

    def families(self) -> dict[Role, PromptFamily]:
        """Return both families."""
        return families_of(self.contexts)


def id_mass(logits: Float[Tensor, "crops texts"], classes: int, bounded: bool = False) -> Float[Tensor, ""]:
    """Return the mean of log(P_ID + 1e-16), or of -log(1 - P_ID), P_ID the softmax mass of the first C texts.

    >>> id_mass(torch.zeros(1, 4), 1).exp()
    tensor(0.2500)
    """
    log_p = logits.log_softmax(dim=-1)
    if bounded:
        return -log_p[:, classes:].logsumexp(dim=-1).mean()
    return (log_p[:, :classes].logsumexp(dim=-1).exp() + 1e-16).log().mean()


def diversity(texts: Float[Tensor, "texts dim"]) -> Float[Tensor, ""]:
    """Return the mean over pairs n != m of max(0, cos(n, m)); 0 for a single text.

    >>> diversity(torch.ones(2, 1))
    tensor(1.)
    """
    cosines = (texts @ texts.T).clamp_min(0)
    count = len(texts)
    return (cosines.sum() - cosines.diagonal().sum()) / max(1, count * (count - 1))
