"""What prompt learning leaves behind: contexts, names, the tower that they belong to, and how they were made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mmood.encoders.base import AbstractEncoder
from mmood.encoders.vision_language import VisionLanguageEncoder, with_texts
from mmood.errors import MmoodError
from mmood.prompts.family import PromptFamily

Role = Literal["positive", "negative", "local", "local_negative"]
ROLES: tuple[Role, ...] = ("positive", "negative", "local", "local_negative")


@dataclass(frozen=True)
class LearnedPrompts:
    """The prompts that a method has learned.

    Attributes:
        method: the class that learned them.
        class_names: of the training, in the order of the labels.
        families: `positive` of the ID classes, `negative` of what is none, `local` and `local_negative` for patches.
        templates: prompts of the ID classes where no positive context was learned.
        tower: name and tag of the model, and `weights_sha256`, its fingerprint.
        recipe: how they were learned, as plain data.
        tensors: what else the method has learned, such as maps between the modalities.
        for_words: whether negative labels get the learned context, too, instead of their own prompts.
    """

    method: str
    class_names: tuple[str, ...]
    families: Mapping[Role, PromptFamily]
    templates: tuple[str, ...]
    tower: Mapping[str, object]
    recipe: Mapping[str, object] = field(default_factory=dict)
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    for_words: bool = False

    def check(self, encoder: AbstractEncoder) -> None:
        """Raise MmoodError unless the prompts were learned with this very tower."""
        with_texts(encoder)
        own = encoder.weights_hash()
        if own != self.tower["weights_sha256"]:
            raise MmoodError(
                f"The learned prompts belong to the tower '{self.tower.get('name')}' with weights "
                f"{str(self.tower['weights_sha256'])[:12]}, but model.encoder gives '{encoder.settings.name}' with "
                f"weights {own[:12]}; a context means nothing to another tower."
            )

    def positive(self, encoder: AbstractEncoder, names: Sequence[str]) -> Float[Tensor, "classes dim"]:
        """Return unit-norm text embeddings of ID classes, in full precision."""
        vision_language = with_texts(encoder)
        if "positive" in self.families:
            return self.families["positive"].encode(vision_language, names)
        with torch.no_grad(), torch.autocast(vision_language.device.type, enabled=False):
            return vision_language.prototypes([name.replace("_", " ") for name in names], self.templates)

    def of(self, role: Role, encoder: AbstractEncoder, names: Sequence[str]) -> Float[Tensor, "texts dim"]:
        """Return the unit-norm embeddings of a family; of none, (0, D)."""
        vision_language: VisionLanguageEncoder = with_texts(encoder)
        if role == "positive":
            return self.positive(vision_language, names)
        if role not in self.families:
            return torch.empty(0, vision_language.embedding_dim, device=vision_language.device)
        return self.families[role].encode(vision_language, names)

    def of_words(self, encoder: AbstractEncoder, words: Sequence[str]) -> Float[Tensor, "words dim"]:
        """Return the unit-norm embeddings of words that are no class names, in the learned context.

        Raises:
            MmoodError: no context was learned that all classes share.
        """
        family = self.families.get("positive")
        if family is None or family.layout.pairing != "every" or len(family.context) != 1:
            raise MmoodError(
                f"{self.method} has learned no context that all classes share, so none can stand before negative "
                "labels; set `negative_prompts` to fixed."
            )
        return family.encode(with_texts(encoder), words)

    def describe(self) -> list[str]:
        """Return in words what stands in the place of templates."""
        found = []
        for role in (role for role in ROLES if role in self.families):
            contexts, tokens, _ = self.families[role].context.shape
            found.append(f"{role.replace('_', ' ')}: {contexts} x {tokens} tokens learned by {self.method}")
        return found if "positive" in self.families else [*self.templates, *found]
