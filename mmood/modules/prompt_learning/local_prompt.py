"""Local-Prompt: prompts of regions, and negative prompts, beside fixed prompts of images."""

from __future__ import annotations

from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mmood.errors import MmoodError
from mmood.modules.prompt_learning.context import ContextSettings
from mmood.modules.prompt_learning.method import AbstractPromptMethod, Texts, TextSide, Views, families_of
from mmood.prompts import PromptFamily, Role
from mmood.prompts.family import Layout
from mmood.settings import check_count, check_number

_CONTEXT = ContextSettings(class_specific=True)

Columns = Float[Tensor, "batch patches columns"]


@final
class LocalPrompt(AbstractPromptMethod):
    """Local-Prompt (arXiv 2409.04796): a local context of each class, and negative prompts, trained on regions.

    Of each image several crops are drawn and ranked by their cosine with "a photo of a {name}."; the best are positive
    examples, the worst is a negative one. A batch gives a step of the optimiser for each rank of positives. Images as a
    whole are compared with the fixed prompts; `LocalPromptScore` adds the regions.

    Warning:
        `top_k` here and that of `LocalPromptScore` are two settings: the paper trains with 50 regions on four shots,
        and scores with 10.

    Args:
        context: the local vectors; the paper has a context for each class.
        negatives: N, negative prompts.
        crops: of each image.
        positives: of them, the best that are trained on.
        top_k: regions that a column of the loss is summed over (50 of ViT-B/16's 196 in the README's four-shot run, 20
            by the code's default); all, where there are fewer.
        negative_weight: of the loss of negative crops.
        diversity_weight: of the mean cosine of the negative prompts.
    """

    reads_patches = True
    crop_template = "a photo of a {}."

    def __init__(
        self,
        context: ContextSettings = _CONTEXT,
        negatives: int = 300,
        crops: int = 16,
        positives: int = 8,
        top_k: int = 50,
        negative_weight: float = 5.0,
        diversity_weight: float = 0.5,
    ) -> None:
        super().__init__()
        for name, value, least in (("negatives", negatives, 2), ("crops", crops, 2), ("top_k", top_k, 1)):
            check_count(f"LocalPrompt.{name}", value, least)
        check_count("LocalPrompt.positives", positives)
        if positives >= crops:
            raise MmoodError(
                f"LocalPrompt.positives is {positives} of {crops} crops, and one must be left as the negative example."
            )
        check_number("LocalPrompt.negative_weight", negative_weight, least=0)
        check_number("LocalPrompt.diversity_weight", diversity_weight, least=0)
        self.context = context
        self.negatives = negatives
        self.crops = crops
        self.steps = self.positives = positives
        self.top_k = top_k
        self.negative_weight = negative_weight
        self.diversity_weight = diversity_weight

    def build(self, side: TextSide, seed: int) -> None:
        """Make the local contexts and the negative prompts, which have a full stop and no name."""
        local = side.context(
            self.context, self.context.layout(), self.context.contexts(len(side.class_names)), (seed, 0)
        )
        negative = side.context(self.context, Layout("none", "."), self.negatives, (seed, 1))
        self.contexts = nn.ModuleDict({"local": local, "local_negative": negative})

    def texts(self, side: TextSide, views: Views, generator: torch.Generator) -> Texts:
        """Return the local and the negative prompts."""
        return side.encode_all(self.contexts)

    def loss(self, views: Views, texts: Texts, scale: Float[Tensor, ""], step: int) -> Float[Tensor, ""]:
        """Return L_pos + negative_weight * L_neg + diversity_weight * L_div for one rank of positive crops."""
        local, negative = texts["local"], texts["local_negative"]
        good, bad = views.local()[:, step], views.local()[:, -1]
        positive_loss = positive_crops(scale * good @ local.T, scale * good @ negative.T, views.label, self.top_k)
        negative_loss = negative_crops(scale * bad @ local.T, scale * bad @ negative.T, views.label, self.top_k)
        return positive_loss + self.negative_weight * negative_loss + self.diversity_weight * mean_cosine(negative)

    def families(self) -> dict[Role, PromptFamily]:
        """Return the contexts."""
        return families_of(self.contexts)


def positive_crops(a: Columns, b: Columns, label: Int[Tensor, " batch"], top_k: int) -> Float[Tensor, ""]:
    """Return -mean log of the mass of the own class among the K largest logits of every column (arXiv 2409.04796).

    Args:
        a: (B, P, C) scaled cosines of regions with local prompts.
        b: (B, P, N) with negative prompts; N may be 0.
        label: class of each image.
        top_k: K.

    >>> positive_crops(torch.zeros(1, 4, 2), torch.zeros(1, 4, 2), torch.tensor([0]), 2).exp()
    tensor(4.0000)
    """
    best_a, best_b = _largest(a, top_k), _largest(b, top_k)
    own = _own(best_a, label).logsumexp(dim=1)
    both = torch.cat([best_a.flatten(1), best_b.flatten(1)], dim=1).logsumexp(dim=1)
    return (both - own).mean()


def negative_crops(a: Columns, b: Columns, label: Int[Tensor, " batch"], top_k: int) -> Float[Tensor, ""]:
    """Return -mean log of the mass of the negative prompts in the K regions nearest to the own class.

    See `positive_crops`; the other mass is that of the K largest logits of every class.

    >>> negative_crops(torch.zeros(1, 4, 2), torch.zeros(1, 4, 2), torch.tensor([0]), 2).exp()
    tensor(2.)
    """
    count = min(top_k, a.shape[1])
    regions = _own(a, label).topk(count, dim=1).indices
    rows = torch.arange(len(a), device=a.device).unsqueeze(1)
    negative = b[rows, regions].flatten(1).logsumexp(dim=1)
    classes = _largest(a, top_k).flatten(1).logsumexp(dim=1)
    return (torch.logaddexp(negative, classes) - negative).mean()


def mean_cosine(texts: Float[Tensor, "texts dim"]) -> Float[Tensor, ""]:
    """Return sum_{n,m} cos(n, m) / (N (N - 1)); the diagonal adds the constant 1 / (N - 1).

    >>> mean_cosine(torch.eye(2))
    tensor(1.)
    """
    count = len(texts)
    return (texts @ texts.T).sum() / (count * (count - 1))


def _largest(columns: Columns, top_k: int) -> Columns:
    """Return the K largest values of each column, over the regions."""
    return columns.topk(min(top_k, columns.shape[1]), dim=1).values


def _own(columns: Columns, label: Int[Tensor, " batch"]) -> Float[Tensor, "batch patches"]:
    """Return the column of the own class."""
    return columns.gather(2, label.view(-1, 1, 1).expand(-1, columns.shape[1], 1)).squeeze(2)
