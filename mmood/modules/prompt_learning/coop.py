"""CoOp: a learned context before the class names."""

from __future__ import annotations

from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from mmood.modules.prompt_learning.context import ContextSettings
from mmood.modules.prompt_learning.method import AbstractPromptMethod, Texts, TextSide, Views, cross_entropy
from mmood.prompts import PromptFamily, Role

_CONTEXT = ContextSettings()


@final
class CoOp(AbstractPromptMethod):
    """CoOp (arXiv 2109.01134): `[K_1] ... [K_M] {name}.` under the cross-entropy of the images' classes.

    Warning:
        Negative labels keep fixed prompts unless `negative_prompts: learned`. Which of the two a published row
        with NegLabel has is not known, so name yours.

    Args:
        context: the learned vectors.
    """

    def __init__(self, context: ContextSettings = _CONTEXT) -> None:
        super().__init__()
        self.context = context

    def build(self, side: TextSide, seed: int) -> None:
        """Make the context."""
        contexts = self.context.contexts(len(side.class_names))
        self.positive = side.context(self.context, self.context.layout(), contexts, (seed, 0))

    def texts(self, side: TextSide, views: Views, generator: torch.Generator) -> Texts:
        """Return the class prompts."""
        return {"positive": side.encode(self.positive)}

    def loss(self, views: Views, texts: Texts, scale: Float[Tensor, ""], step: int) -> Float[Tensor, ""]:
        """Return the cross-entropy."""
        return cross_entropy(views, texts["positive"], scale)

    def families(self) -> dict[Role, PromptFamily]:
        """Return the context."""
        return {"positive": self.positive.family()}
