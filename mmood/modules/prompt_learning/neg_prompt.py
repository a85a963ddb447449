"""NegPrompt: negative prompts of each class, learned from ID images alone."""

from __future__ import annotations

import hashlib
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from mmood.errors import MmoodError
from mmood.modules.prompt_learning.context import ContextSettings
from mmood.modules.prompt_learning.method import AbstractPromptMethod, Texts, TextSide, Views
from mmood.prompts import LEARNED, LearnedPrompts, PromptFamily, Role, load_prompts
from mmood.prompts.family import Layout
from mmood.settings import check_count, check_number

_CONTEXT = ContextSettings()


@final
class NegPrompt(AbstractPromptMethod):
    """NegPrompt (CVPR 2024), repaired: negative contexts shared by all classes, beside positive prompts that are fixed.

    L = -mean_i log of the mass of the positive prompts + distance_weight * mean (1 - cos(n, t)) + apart_weight * mean
    max(0, cos(n, n')): an image rejects all negatives, a negative stays near its class ("similar yet different"), and
    the negatives of a class stay apart. The paper's score is `NegPromptScore`.

    Warning:
        In the released code the second term pushes negatives away from their class, and the third is a
        constant; `reference_behaviour` has that form.

    Args:
        context: of a negative prompt, `{context} {name}` without a full stop.
        positive: the first stage: `learned:FOLDER`, prompts that CoOp has learned with this tower; None for the fixed
            prompt "a photo of a {}" (ours).
        negatives: K, negative prompts of a class.
        distance_weight: of the distance between negatives and positives.
        apart_weight: of the cosines between the negatives of a class.
        reference_behaviour: the form of the released code.
    """

    templates = ("a photo of a {}",)

    def __init__(
        self,
        context: ContextSettings = _CONTEXT,
        positive: str | None = None,
        negatives: int = 2,
        distance_weight: float = 0.1,
        apart_weight: float = 0.05,
        reference_behaviour: bool = False,
    ) -> None:
        super().__init__()
        check_count("NegPrompt.negatives", negatives)
        check_number("NegPrompt.distance_weight", distance_weight, least=0)
        check_number("NegPrompt.apart_weight", apart_weight, least=0)
        self.context = context
        self.positive = positive
        self.negatives = negatives
        self.distance_weight = distance_weight
        self.apart_weight = apart_weight
        self.reference_behaviour = reference_behaviour

    def build(self, side: TextSide, seed: int) -> None:
        """Make the negative contexts, and read the first stage."""
        self._first: LearnedPrompts | None = None
        if self.positive is not None:
            self._first = load_prompts(self.positive.removeprefix(LEARNED))
            self._first.check(side.encoder)
            if "positive" not in self._first.families:
                raise MmoodError(
                    f"NegPrompt.positive names prompts of {self._first.method}, which learns no context of the ID "
                    "classes; give those of CoOp."
                )
        self._fixed: Tensor | None = None
        self.negative = side.context(self.context, Layout("every", ""), self.negatives, (seed, 1))

    def texts(self, side: TextSide, views: Views, generator: torch.Generator) -> Texts:
        """Return the C positive prompts, which are constant, and the C K negative ones, those of a class together."""
        if self._fixed is None:
            if self._first is None:
                self._fixed = side.fixed(self.templates)
            else:
                self._fixed = self._first.positive(side.encoder, side.class_names)
        return {"positive": self._fixed.to(views.embedding.device), "negative": side.encode(self.negative)}

    def loss(self, views: Views, texts: Texts, scale: Float[Tensor, ""], step: int) -> Float[Tensor, ""]:
        """Return the three terms."""
        positive = texts["positive"]
        negative = texts["negative"].reshape(len(positive), self.negatives, -1)
        near = (negative * positive.unsqueeze(1)).sum(dim=-1).mean()
        rejected = rejection(views.embedding[:, 0], positive, texts["negative"], scale)
        if self.reference_behaviour:
            return rejected + self.distance_weight * near
        return rejected + self.distance_weight * (1 - near) + self.apart_weight * apart(negative)

    def reads(self) -> dict[str, object]:
        """Return the hash of the positive prompts of the first stage."""
        if self._first is None:
            return {}
        context = self._first.families["positive"].context
        return {"positive (sha256)": hashlib.sha256(context.numpy().tobytes()).hexdigest()}

    def families(self) -> dict[Role, PromptFamily]:
        """Return the negative contexts, and the positive ones of the first stage."""
        found: dict[Role, PromptFamily] = {"negative": self.negative.family()}
        if self._first is not None:
            found["positive"] = self._first.families["positive"]
        return found


def rejection(
    embedding: Float[Tensor, "batch dim"],
    positive: Float[Tensor, "classes dim"],
    negative: Float[Tensor, "negatives dim"],
    scale: Float[Tensor, ""],
) -> Float[Tensor, ""]:
    """Return -mean_i log [sum_c e^{s v.t_c} / (sum_c e^{s v.t_c} + sum_n e^{s v.n})].

    >>> one = torch.ones(1, 1)
    >>> rejection(one, one, torch.ones(3, 1), torch.tensor(7.0)).exp()
    tensor(4.0000)
    """
    inside, outside = ((scale * embedding @ texts.T).logsumexp(dim=-1) for texts in (positive, negative))
    return -functional.logsigmoid(inside - outside).mean()


def apart(negative: Float[Tensor, "classes negatives dim"]) -> Float[Tensor, ""]:
    """Return the mean over classes and pairs k < k' of max(0, cos(n_ck, n_ck')); 0 for one negative a class.

    >>> apart(torch.ones(3, 2, 1))
    tensor(1.)
    """
    count = negative.shape[1]
    cosines = (negative @ negative.transpose(1, 2)).clamp_min(0)
    pairs = torch.triu_indices(count, count, offset=1, device=negative.device)
    return cosines[:, pairs[0], pairs[1]].mean() if count > 1 else negative.sum() * 0
