"""SCT: LoCoOp whose two terms are weighted by how sure the prompts are of an image."""

from __future__ import annotations

from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from mmood.modules.gather import mean_of_selected
from mmood.modules.prompt_learning.context import ContextSettings
from mmood.modules.prompt_learning.locoop import chosen_top_k, entropy, id_irrelevant
from mmood.modules.prompt_learning.method import AbstractPromptMethod, Texts, TextSide, Views, class_logits
from mmood.prompts import PromptFamily, Role
from mmood.settings import check_count, check_number

_CONTEXT = ContextSettings()
_LEAST = 1e-7


@final
class SCT(AbstractPromptMethod):
    """SCT (arXiv 2411.03359): self-calibrated tuning.

    L = mean_i (1 + 1e-7 - p_i) CE_i + weight * mean over selected regions of -(1e-7 + p_i) H, p_i the probability of
    the class of image i. As in the released code the weights carry a gradient, too.

    Warning:
        The released command passes one argument more than its script reads, so the number meant as the weight
        lands elsewhere; and its sweep over weights is evaluated on the OoD test sets. Choose the weight on
        validation sets.

    Args:
        context: the learned vectors.
        top_k: K of the C classes, see LoCoOp; None for a fifth of them.
        weight: of the regions. (The paper's script tries several values on the OoD test sets; 0.25 is LoCoOp's.)
        detach: take the weights as constants.
    """

    reads_patches = True

    def __init__(
        self,
        context: ContextSettings = _CONTEXT,
        top_k: int | None = None,
        weight: float = 0.25,
        detach: bool = False,
    ) -> None:
        super().__init__()
        check_count("SCT.top_k", top_k, null="a fifth of the classes")
        check_number("SCT.weight", weight, least=0)
        self.context = context
        self.top_k = top_k
        self.weight = weight
        self.detach = detach

    def build(self, side: TextSide, seed: int) -> None:
        """Make the context, and settle K."""
        classes = len(side.class_names)
        self._top_k = chosen_top_k("SCT", self.top_k, classes)
        self.positive = side.context(self.context, self.context.layout(), self.context.contexts(classes), (seed, 0))

    def texts(self, side: TextSide, views: Views, generator: torch.Generator) -> Texts:
        """Return the class prompts."""
        return {"positive": side.encode(self.positive)}

    def loss(self, views: Views, texts: Texts, scale: Float[Tensor, ""], step: int) -> Float[Tensor, ""]:
        """Return the calibrated loss."""
        local = scale * views.local()[:, 0] @ texts["positive"].T
        logits = class_logits(views, texts["positive"], scale)
        return sct_loss(logits, local, views.label, self._top_k, self.weight, self.detach)

    def families(self) -> dict[Role, PromptFamily]:
        """Return the context."""
        return {"positive": self.positive.family()}

    def details(self) -> dict[str, object]:
        """Return K as it was settled."""
        return {"top_k": self._top_k}


def sct_loss(
    logits: Float[Tensor, "batch classes"],
    local: Float[Tensor, "batch patches classes"],
    label: Int[Tensor, " batch"],
    top_k: int,
    weight: float,
    detach: bool = False,
) -> Float[Tensor, ""]:
    """Return SCT's loss (arXiv 2411.03359).

    Args:
        logits: of the images, scaled.
        local: of their regions.
        label: class of each image.
        top_k: regions without their class among so many are selected.
        weight: of the selected regions.
        detach: take the probabilities that weight the terms as constants.

    >>> sct_loss(torch.zeros(1, 2), torch.zeros(1, 3, 2), torch.tensor([0]), 1, 0.25)
    tensor(0.3466)
    """
    p = logits.softmax(dim=-1).gather(1, label.unsqueeze(1)).squeeze(1)
    p = p.detach() if detach else p
    images = ((1 + _LEAST - p) * functional.cross_entropy(logits, label, reduction="none")).mean()
    regions = (_LEAST + p).unsqueeze(1) * entropy(local)
    return images - weight * mean_of_selected(regions, id_irrelevant(local, label, top_k))
