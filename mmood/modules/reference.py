"""The ID side of a detector, as its scores see it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Literal, final

import torch
from jaxtyping import Float
from torch import Tensor

from mmood.encoders.base import AbstractEncoder
from mmood.encoders.vision_language import with_texts
from mmood.errors import MmoodError
from mmood.features.provider import FeatureProvider, Labeller
from mmood.prompts import LearnedPrompts
from mmood.scores.base import Bank, LinearHead, Reference
from mmood.scores.descriptors import LocalDescriptors, LocalHead


@final
class ModelReference(Reference):
    """The ID side with the weights of the moment at which it was made.

    Args:
        encoder: the model, with or without a text encoder.
        class_names: the C ID classes, in the order of the labels.
        templates: prompts of the text prototypes, which are made when they are first asked for.
        heads: the trained heads, first the one that gives the logits; none where texts give them.
        provider: gives the ID training images; None where there are none.
        labels: what gives the classes of training images; None for the true ones.
        learned: prompts of the ID classes in the place of templates.
        local_head: a trained head that the positions of maps go through.
    """

    def __init__(
        self,
        encoder: AbstractEncoder,
        class_names: Sequence[str],
        templates: Sequence[str],
        heads: tuple[LinearHead, ...] = (),
        provider: FeatureProvider | None = None,
        labels: Labeller | None = None,
        learned: LearnedPrompts | None = None,
        local_head: LocalHead | None = None,
    ) -> None:
        self.encoder = encoder
        self.class_names = class_names
        self.templates = templates
        self.trained = heads
        self.provider = provider
        self.labels = labels
        self.learned = learned
        self.local_head = local_head

    @cached_property
    def prototypes(self) -> Float[Tensor, "classes dim"]:
        """Unit-norm text prototypes; MmoodError for an image-only encoder."""
        if self.learned is not None:
            return self.learned.positive(self.encoder, self.class_names)
        return text_prototypes(self.encoder, self.class_names, self.templates)

    def bank(
        self,
        shots: int | None = None,
        transform: Literal["eval", "train"] = "eval",
        descriptors: LocalDescriptors | None = None,
    ) -> Bank:
        """Return the ID training images; see `FeatureProvider.bank`."""
        if self.provider is None:
            raise MmoodError("There is no ID training set here; run the module over data with `data.train` set.")
        return self.provider.bank(shots, transform, self.labels, descriptors)

    def heads(self) -> tuple[LinearHead, ...]:
        """Return the trained heads, first the one that gives the logits."""
        return self.trained


def text_prototypes(
    encoder: AbstractEncoder, class_names: Sequence[str], templates: Sequence[str]
) -> Float[Tensor, "classes dim"]:
    """Return the unit-norm text prototypes of classes, in full precision.

    Raises:
        MmoodError: the encoder has no text encoder.
    """
    vision_language = with_texts(encoder)
    with torch.no_grad(), torch.autocast(vision_language.device.type, enabled=False):
        return vision_language.prototypes(class_names, templates)
