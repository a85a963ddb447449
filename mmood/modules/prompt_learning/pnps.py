"""PNPS: positive and negative prompts of each class, supervised by given texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from mmood.modules.prompt_learning.context import ContextSettings
from mmood.modules.prompt_learning.id_like import diversity
from mmood.modules.prompt_learning.method import (
    AbstractPromptMethod,
    Texts,
    TextSide,
    Views,
    cross_entropy,
    families_of,
)
from mmood.modules.prompt_learning.neg_prompt import rejection
from mmood.prompts import PromptFamily, Role
from mmood.settings import check_number
from mmood.words.class_texts import load_class_texts

_CONTEXT = ContextSettings(class_specific=True)


@final
class PNPS(AbstractPromptMethod):
    """Inspired by PNPS (arXiv 2511.10923), experimental: only its abstract could be read, and every formula is ours.

    Each class has a positive and a negative prompt of its own. The five terms carry the paper's names: PIR, the
    cross-entropy of images and positive prompts; NIR, images reject all negative prompts; PPD and NPD, the distance of
    the prompts of each kind from the mean of the given texts of their class; NND, negative prompts apart. There are no
    learned mappings, no graph and no visual branch. Score: `NegPromptScore`, or NegLabel's form in `IDLikeScore`.

    Warning:
        A number of this class is no number of the paper's method: only the names of its loss terms are known.

    Args:
        class_texts: the file of positive and negative texts of each class that `mmood propose --method pnps` writes.
        context: vectors of a prompt; the paper's prompts belong to their class.
        nir_weight: of images against negative prompts.
        ppd_weight: of the distance of positive prompts from positive texts.
        npd_weight: of the distance of negative prompts from negative texts.
        nnd_weight: of the cosines between negative prompts.
    """

    def __init__(
        self,
        class_texts: str,
        context: ContextSettings = _CONTEXT,
        nir_weight: float = 1.0,
        ppd_weight: float = 0.1,
        npd_weight: float = 0.1,
        nnd_weight: float = 0.05,
    ) -> None:
        super().__init__()
        for name, weight in (("nir", nir_weight), ("ppd", ppd_weight), ("npd", npd_weight), ("nnd", nnd_weight)):
            check_number(f"PNPS.{name}_weight", weight, least=0)
        self.class_texts = class_texts
        self.context = context
        self.nir_weight = nir_weight
        self.ppd_weight = ppd_weight
        self.npd_weight = npd_weight
        self.nnd_weight = nnd_weight

    def build(self, side: TextSide, seed: int) -> None:
        """Make both contexts, and read the texts."""
        self._given = load_class_texts(self.class_texts, list(side.class_names))
        self._goals: tuple[Tensor, Tensor] | None = None
        contexts = self.context.contexts(len(side.class_names))
        positive, negative = (
            side.context(self.context, self.context.layout(), contexts, (seed, number)) for number in (0, 1)
        )
        self.contexts = nn.ModuleDict({"positive": positive, "negative": negative})

    def texts(self, side: TextSide, views: Views, generator: torch.Generator) -> Texts:
        """Return both families of prompts, and the means of the given texts."""
        if self._goals is None:
            given = self._given.texts
            self._goals = (
                _means(side, [entry.positive for entry in given]),
                _means(side, [entry.negative for entry in given]),
            )
        device = views.embedding.device
        positive, negative = (goal.to(device) for goal in self._goals)
        return {**side.encode_all(self.contexts), "positive_goal": positive, "negative_goal": negative}

    def loss(self, views: Views, texts: Texts, scale: Float[Tensor, ""], step: int) -> Float[Tensor, ""]:
        """Return PIR + the weighted other four."""
        positive, negative = texts["positive"], texts["negative"]
        found = cross_entropy(views, positive, scale)
        found = found + self.nir_weight * rejection(views.embedding[:, 0], positive, negative, scale)
        found = found + self.ppd_weight * distance(positive, texts["positive_goal"])
        found = found + self.npd_weight * distance(negative, texts["negative_goal"])
        return found + self.nnd_weight * diversity(negative)

    def families(self) -> dict[Role, PromptFamily]:
        """Return both families."""
        return families_of(self.contexts)

    def details(self) -> dict[str, object]:
        """Return the hash of the given texts."""
        return {"class_texts_sha256": self._given.content_hash}


def distance(prompts: Float[Tensor, "classes dim"], goals: Float[Tensor, "classes dim"]) -> Float[Tensor, ""]:
    """Return mean_c (1 - cos(prompt_c, goal_c)) of unit-norm rows.

    >>> distance(torch.eye(2), torch.eye(2).flip(0))
    tensor(1.)
    """
    return 1 - (prompts * goals).sum(dim=-1).mean()


@torch.no_grad()
def _means(side: TextSide, texts: Sequence[Sequence[str]]) -> Float[Tensor, "classes dim"]:
    """Return the normalised mean of the embeddings of each class's texts."""
    with torch.autocast(side.encoder.device.type, enabled=False):
        rows = side.encoder.encode_text([text for own in texts for text in own])
    means = [part.mean(dim=0) for part in torch.split(rows, [len(own) for own in texts])]
    return functional.normalize(torch.stack(means), dim=-1)
