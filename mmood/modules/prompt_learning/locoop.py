"""LoCoOp: regions of an image that do not show its class stand for OoD."""

from __future__ import annotations

from typing import final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mmood.errors import MmoodError
from mmood.modules.gather import mean_of_selected
from mmood.modules.prompt_learning.context import ContextSettings
from mmood.modules.prompt_learning.method import AbstractPromptMethod, Texts, TextSide, Views, cross_entropy
from mmood.prompts import PromptFamily, Role
from mmood.settings import check_count, check_number

_CONTEXT = ContextSettings()
_SHARE = 5
"""The paper's 200 of 1,000 classes: a fifth."""


@final
class LoCoOp(AbstractPromptMethod):
    """LoCoOp (arXiv 2306.01293): CoOp, and maximal entropy for regions in which the class is not among the top K.

    L = CE + weight * L_ood, L_ood the mean of -H over the selected regions of all images of the batch. Regions are the
    tower's patch embeddings by the value path. The paper's scores are MCM and GL-MCM with a local weight of 1.

    Warning:
        The released code's default weight is 1, the paper's 0.25; its K of 200 is for 1,000 classes. Its
        authors ask to say whether a number is of MCM or of GL-MCM.

    Args:
        context: the learned vectors.
        top_k: K of the C classes; None for a fifth of them, as the paper's 200 of 1,000.
        weight: of L_ood. The released code's own default is 1, but the paper's runs pass 0.25.
    """

    reads_patches = True

    def __init__(self, context: ContextSettings = _CONTEXT, top_k: int | None = None, weight: float = 0.25) -> None:
        super().__init__()
        check_count("LoCoOp.top_k", top_k, null="a fifth of the classes")
        check_number("LoCoOp.weight", weight, least=0)
        self.context = context
        self.top_k = top_k
        self.weight = weight

    def build(self, side: TextSide, seed: int) -> None:
        """Make the context, and settle K."""
        classes = len(side.class_names)
        self._top_k = chosen_top_k("LoCoOp", self.top_k, classes)
        self.positive = side.context(self.context, self.context.layout(), self.context.contexts(classes), (seed, 0))

    def texts(self, side: TextSide, views: Views, generator: torch.Generator) -> Texts:
        """Return the class prompts."""
        return {"positive": side.encode(self.positive)}

    def loss(self, views: Views, texts: Texts, scale: Float[Tensor, ""], step: int) -> Float[Tensor, ""]:
        """Return CE + weight * L_ood."""
        logits = scale * views.local()[:, 0] @ texts["positive"].T
        selected = id_irrelevant(logits, views.label, self._top_k)
        regularisation = -mean_of_selected(entropy(logits), selected)
        return cross_entropy(views, texts["positive"], scale) + self.weight * regularisation

    def families(self) -> dict[Role, PromptFamily]:
        """Return the context."""
        return {"positive": self.positive.family()}

    def details(self) -> dict[str, object]:
        """Return K as it was settled."""
        return {"top_k": self._top_k}


def chosen_top_k(method: str, top_k: int | None, classes: int) -> int:
    """Return K; by default a fifth of the classes.

    Raises:
        MmoodError: with K no region could be outside the top K.
    """
    found = max(1, classes // _SHARE) if top_k is None else top_k
    if classes > 1 and found >= classes:
        raise MmoodError(
            f"{method}.top_k is {found}, but there are {classes} classes: the class of every region would be among the "
            "top, and none would stand for OoD; lower it (the paper has 200 of 1,000)."
        )
    return found


def id_irrelevant(
    logits: Float[Tensor, "batch patches classes"], label: Int[Tensor, " batch"], top_k: int
) -> Bool[Tensor, "batch patches"]:
    """Return which regions do not have the class of their image among their K largest logits.

    A class is among them if fewer than K others are larger.

    >>> id_irrelevant(torch.tensor([[[3.0, 2.0, 1.0], [1.0, 2.0, 3.0]]]), torch.tensor([1]), 1)
    tensor([[True, True]])
    """
    own = logits.gather(-1, label.view(-1, 1, 1).expand(-1, logits.shape[1], 1))
    return (logits > own).sum(dim=-1) >= top_k


def entropy(logits: Float[Tensor, "*rows classes"]) -> Float[Tensor, "*rows"]:
    """Return H(q) = -sum_c q_c log(q_c + 1e-5) of q = softmax(logits), as LoCoOp's code has it.

    >>> entropy(torch.zeros(1, 2)).exp()
    tensor([2.0000])
    """
    q: Tensor = logits.softmax(dim=-1)
    return -(q * (q + 1e-5).log()).sum(dim=-1)
