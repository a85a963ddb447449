"""What the scores of a run find around them, and the requirements that several scores have."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from mmood.encoders.base import AbstractEncoder
from mmood.encoders.vision_language import with_texts
from mmood.errors import MmoodError
from mmood.settings.requirements import Requirement


@dataclass(frozen=True)
class Surroundings:
    """What is known of a run before it reads an image.

    Attributes:
        encoder: with its weights.
        head_reads: what the trained linear head reads; None where the logits are cosines with texts.
        training_set: returns the name of the ID training set; raises MmoodError where the settings name none.
    """

    encoder: AbstractEncoder
    head_reads: Literal["features", "embedding"] | None
    training_set: Callable[[], str]

    def training_images(self) -> Requirement:
        """Return the requirement of ID training images."""
        return Requirement("training images", lambda: f"'{self.training_set()}'")

    def feature_head(self) -> Requirement:
        """Return the requirement of a trained head on the features."""
        return Requirement("head on features", self._feature_head)

    def text_encoder(self) -> Requirement:
        """Return the requirement of a text encoder."""
        return Requirement("text encoder", lambda: with_texts(self.encoder).settings.name)

    def of_outputs(self, outputs: frozenset[str]) -> Iterator[Requirement]:
        """Yield the requirements of scores that read these outputs of an image."""
        if "embedding" in outputs:
            yield Requirement("joint embedding", self._embedding)
        if "patches" in outputs:
            yield Requirement("patch embeddings", self._patches)

    def _feature_head(self) -> str:
        if self.head_reads is None:
            raise MmoodError(
                "This score needs a linear head on the features, but the module has none (its logits are cosines with "
                "text embeddings); use it with a probe."
            )
        if self.head_reads != "features":
            raise MmoodError(
                "This score needs a linear head on the features, but the module's head reads the embedding; train one "
                "with `reads: features`."
            )
        return "the module has one"

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
