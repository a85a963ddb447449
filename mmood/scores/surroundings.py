"""What the scores of a run find around them, and the requirements that several scores have."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from mmood.encoders.base import AbstractEncoder
from mmood.encoders.vision_language import with_texts
from mmood.errors import MmoodError
from mmood.prompts import LearnedPrompts
from mmood.settings.requirements import Requirement


def without_head(owner: str, reads: str) -> str:
    """Return the sentence that says that a score lacks a trained head on an output."""
    return (
        f"{owner} needs a trained linear head on the {reads}, but the module has none; train a probe with "
        "`model.grid.reads: [features, embedding]` and one learning rate."
    )


@dataclass(frozen=True)
class Surroundings:
    """What is known of a run before it reads an image.

    Attributes:
        encoder: with its weights.
        head_reads: what each trained linear head reads, first the one that gives the logits; none where texts do.
        training_set: returns the name of the ID training set; raises MmoodError where the settings name none.
        learned: the learned prompts of the ID classes, if they have some.
    """

    encoder: AbstractEncoder
    head_reads: tuple[Literal["features", "embedding"], ...]
    training_set: Callable[[], str]
    learned: LearnedPrompts | None = None

    def training_images(self) -> Requirement:
        """Return the requirement of ID training images."""
        return Requirement("training images", lambda: f"'{self.training_set()}'")

    def feature_head(self) -> Requirement:
        """Return the requirement of a trained head on the features."""
        return Requirement("head on features", self._feature_head)

    def heads(self, owner: str, *reads: str) -> Requirement:
        """Return the requirement of a trained head on each of these outputs; `owner` is the score."""
        return Requirement("trained heads", lambda: self._heads(owner, reads))

    def text_encoder(self) -> Requirement:
        """Return the requirement of a text encoder."""
        return Requirement("text encoder", lambda: with_texts(self.encoder).settings.name)

    def of_outputs(self, outputs: frozenset[str]) -> Iterator[Requirement]:
        """Yield the requirements of scores that read these outputs of an image."""
        if "embedding" in outputs:
            yield Requirement("joint embedding", self._embedding)
        if "patches" in outputs:
            yield Requirement("patch embeddings", self._patches)
        if "feature_map" in outputs:
            yield Requirement("feature map", self._map)

    def _feature_head(self) -> str:
        if not self.head_reads:
            raise MmoodError(
                "This score needs a linear head on the features, but the module has none (its logits are cosines with "
                "text embeddings); use it with a probe."
            )
        if self.head_reads[0] != "features":
            raise MmoodError(
                "This score needs a linear head on the features, but the module's head reads the embedding; train one "
                "with `reads: features`."
            )
        return "the module has one"

    def _heads(self, owner: str, reads: tuple[str, ...]) -> str:
        for kind in reads:
            if kind not in self.head_reads:
                raise MmoodError(without_head(owner, kind))
        return f"one on each of {', '.join(reads)}"

    def _embedding(self) -> str:
        if self.encoder.embedding_dim is None:
            raise MmoodError(
                f"The encoder '{self.encoder.settings.name}' has no joint embedding (it is image-only); choose a "
                "vision-language model, or set the score's `reads` to features."
            )
        return f"{self.encoder.embedding_dim} dimensions"

    def _patches(self) -> str:
        rows, columns = self.encoder.patch_grid()
        return f"{rows} x {columns} an image ({self.encoder.settings.patches})"

    def _map(self) -> str:
        rows, columns = self.encoder.map_grid()
        return f"{rows} x {columns} ({self.encoder.settings.patches})"
