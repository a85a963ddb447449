"""The contract of a prompt-learning method, and what it is given: views of images, and the side of the texts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from mmood.encoders.vision_language import VisionLanguageEncoder
from mmood.modules.prompt_learning.context import ContextSettings, LearnedContext
from mmood.prompts import PromptFamily, Role
from mmood.prompts.family import Layout
from mmood.prompts.learned import ROLES
from mmood.settings import Recorded

Texts = Mapping[str, Tensor]
"""The (T, D) unit-norm embeddings of the prompts of each family by role, and what a loss reads besides."""


@dataclass(frozen=True)
class Views:
    """The images of a step under the frozen image tower; no gradient leads back from them.

    Attributes:
        embedding: (B, V, D) of V crops of each image, unit norm, float32.
        patches: (B, V, P, D) local embeddings likewise; None unless the method reads them.
        label: (B,) class of each image.
    """

    embedding: Float[Tensor, "batch crops dim"]
    patches: Float[Tensor, "batch crops patches dim"] | None
    label: Int[Tensor, " batch"]

    def ranked(self, prototypes: Float[Tensor, "classes dim"]) -> Views:
        """Return the crops of each image by their cosine with the text of its class, the most similar first."""
        order = (self.embedding * prototypes[self.label].unsqueeze(1)).sum(dim=-1).argsort(dim=1, descending=True)
        rows = torch.arange(len(order), device=order.device).unsqueeze(1)
        patches = None if self.patches is None else self.patches[rows, order]
        return replace(self, embedding=self.embedding[rows, order], patches=patches)

    def local(self) -> Float[Tensor, "batch crops patches dim"]:
        """Return the patches of a method that reads them."""
        assert self.patches is not None, "the method says that it reads patches"
        return self.patches


@dataclass(frozen=True)
class TextSide:
    """The frozen text tower and the ID classes.

    Attributes:
        encoder: its weights are constants.
        class_names: the C ID classes.
        chunk: texts whose activations are held at a time; None for all.
    """

    encoder: VisionLanguageEncoder
    class_names: Sequence[str]
    chunk: int | None = None

    @property
    def scale(self) -> Float[Tensor, ""]:
        """The logit scale of the model, a constant."""
        return self.encoder.logit_scale.detach()

    def context(self, settings: ContextSettings, layout: Layout, count: int, seed: Sequence[int]) -> LearnedContext:
        """Return new contexts around the class names, `count` of them."""
        return LearnedContext(self.encoder, self.class_names, settings, layout, count, seed)

    def encode(
        self, context: LearnedContext, shift: Float[Tensor, " width"] | None = None
    ) -> Float[Tensor, "texts dim"]:
        """Return the unit-norm embeddings of all prompts of a family, with gradient; see `LearnedContext.encode`."""
        return context.encode(self.encoder, self.chunk, shift)

    def encode_all(self, contexts: nn.ModuleDict) -> dict[str, Tensor]:
        """Return the embeddings of several families by role."""
        return {role: self.encode(context) for role, context in contexts.items() if isinstance(context, LearnedContext)}

    @torch.no_grad()
    def fixed(self, templates: Sequence[str]) -> Float[Tensor, "classes dim"]:
        """Return the unit-norm text prototypes of the classes in prompts that nobody learns."""
        names = [name.replace("_", " ") for name in self.class_names]
        with torch.autocast(self.encoder.device.type, enabled=False):
            return self.encoder.prototypes(names, templates)


class AbstractPromptMethod(Recorded, nn.Module, ABC):
    """A way to learn prompts: parameters, loss and what is left behind; one file of this room each.

    A subclass stores its settings in `__init__`, makes its parameters in `build`, embeds its prompts in `texts` and
    compares them with images in `loss`. Towers are frozen. `loss` is called in float32, outside autocast.
    """

    reads_patches: ClassVar[bool] = False
    """Whether the loss compares local embeddings with texts."""

    reads_support: ClassVar[bool] = False
    """Whether `learn_support` wants the few-shot images under the eval transform before training."""

    crops: int = 1
    """V, crops of each image in a step."""

    crop_template: str | None = None
    """Rank the crops of an image by their cosine with the text of its class in this prompt, the best first."""

    steps: int = 1
    """Steps of the optimiser for each batch."""

    templates: tuple[str, ...] = ("a photo of a {}.",)
    """Prompts of the ID classes where the method learns no positive context."""

    @abstractmethod
    def build(self, side: TextSide, seed: int) -> None:
        """Make the parameters; a pure function of the text side and the seed."""

    @abstractmethod
    def texts(self, side: TextSide, views: Views, generator: torch.Generator) -> Texts:
        """Return the embeddings of the prompts, with gradient; called under the autocast of the trainer.

        Args:
            side: the text tower.
            views: of the step, for prompts that depend on images.
            generator: on the CPU, seeded by the step, the same on every rank.
        """

    @abstractmethod
    def loss(self, views: Views, texts: Texts, scale: Float[Tensor, ""], step: int) -> Float[Tensor, ""]:
        """Return the loss, a mean over the batch, in step `step` of `steps` on this batch."""

    @abstractmethod
    def families(self) -> dict[Role, PromptFamily]:
        """Return the prompts as they are now, for evaluation and for the folder of learned prompts."""

    def tensors(self) -> dict[str, Tensor]:
        """Return what else a score needs of the method; by default nothing."""
        return {}

    def reads(self) -> dict[str, object]:
        """Return hashes of what the prompts read besides the tensors of a checkpoint; by default nothing."""
        return {}

    def learn_support(self, embedding: Float[Tensor, "images dim"], labels: Int[Tensor, " images"]) -> None:
        """Learn of the few-shot images under the eval transform; by default nothing."""


def families_of(contexts: nn.ModuleDict) -> dict[Role, PromptFamily]:
    """Return the families of learned contexts by role."""
    kept = {role: contexts[role] for role in ROLES if role in contexts}
    return {role: context.family() for role, context in kept.items() if isinstance(context, LearnedContext)}


def class_logits(
    views: Views, texts: Float[Tensor, "texts dim"], scale: Float[Tensor, ""]
) -> Float[Tensor, "batch texts"]:
    """Return the scaled cosines of the only crop of each image."""
    return scale * views.embedding[:, 0] @ texts.T


def cross_entropy(views: Views, texts: Float[Tensor, "classes dim"], scale: Float[Tensor, ""]) -> Float[Tensor, ""]:
    """Return CoOp's loss: the mean cross-entropy of s v.t_c (arXiv 2109.01134)."""
    return functional.cross_entropy(class_logits(views, texts, scale), views.label)
