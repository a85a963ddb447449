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

    def check_names(self, names: Sequence[str]) -> None:
        """Raise MmoodError unless the class names are those of the training, for what belongs to single classes."""
        if tuple(names) != tuple(self.class_names):
            pairs = zip(names, self.class_names, strict=False)
            differs = next((f"'{one}' for '{other}'" for one, other in pairs if one != other), "another number of them")
            raise MmoodError(
                f"What {self.method} has learned belongs to single classes, but the class names are not those of its "
                f"training: {differs}; give `data.class_names` as they were then."
            )

    def positive(self, encoder: AbstractEncoder, names: Sequence[str]) -> Float[Tensor, "classes dim"]:
        """Return unit-norm text embeddings of ID classes, in full precision; MmoodError as `of`."""
        vision_language = with_texts(encoder)
        if "positive" in self.families:
            return self._encoded("positive", vision_language, names)
        with torch.no_grad(), torch.autocast(vision_language.device.type, enabled=False):
            return vision_language.prototypes([name.replace("_", " ") for name in names], self.templates)

    def of(self, role: Role, encoder: AbstractEncoder, names: Sequence[str]) -> Float[Tensor, "texts dim"]:
        """Return the unit-norm embeddings of a family; of none, (0, D).

        Raises:
            MmoodError: the contexts do not fit the tower, or belong to classes of other names.
        """
        vision_language: VisionLanguageEncoder = with_texts(encoder)
        if role == "positive":
            return self.positive(vision_language, names)
        if role not in self.families:
            return torch.empty(0, vision_language.embedding_dim, device=vision_language.device)
        return self._encoded(role, vision_language, names)

    def of_words(self, encoder: AbstractEncoder, words: Sequence[str]) -> Float[Tensor, "words dim"]:
        """Return the unit-norm embeddings of words that are no class names, in the learned context.

        Raises:
            MmoodError: no context was learned that all classes share.
        """
        return self.shared().encode(with_texts(encoder), words)

    def shared(self) -> PromptFamily:
        """Return the context that all classes share; MmoodError if none was learned."""
        family = self.families.get("positive")
        if family is None or family.layout.pairing != "every" or len(family.context) != 1:
            raise MmoodError(
                f"{self.method} has learned no context that all classes share, so none can stand before negative "
                "labels; set `negative_prompts` to fixed."
            )
        return family

    def _encoded(self, role: Role, encoder: VisionLanguageEncoder, names: Sequence[str]) -> Tensor:
        if self.families[role].layout.pairing == "own":
            self.check_names(names)
        return self.families[role].encode(encoder, names)

    def describe(self) -> list[str]:
        """Return in words what stands in the place of templates."""
        found = []
        for role in (role for role in ROLES if role in self.families):
            contexts, tokens, _ = self.families[role].context.shape
            found.append(f"{role.replace('_', ' ')}: {contexts} x {tokens} tokens learned by {self.method}")
        return found if "positive" in self.families else [*self.templates, *found]
