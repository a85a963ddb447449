"""Zero-shot detection: cosines with text prototypes of the ID classes, nothing trained."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor

from mmood.encoders import EncodedImages, EncoderSettings, load_templates
from mmood.errors import MmoodError
from mmood.modules.base import AbstractDetector
from mmood.modules.reference import ModelReference
from mmood.prompts import LEARNED, LearnedPrompts, load_prompts
from mmood.scores.base import AbstractScore, Reference
from mmood.settings import check_choice


class ZeroShot(AbstractDetector):
    """Scores images by their cosines with text prototypes of the ID classes (MCM, arXiv 2211.13445).

    Args:
        encoder: a vision-language model.
        class_names: ID classes: the name of a list, a text file with one name a line, or the names.
        scores: name in the results -> score.
        prompts: a template such as `a photo of a {}`, several, or the name of a set of templates; a class's prototype
            is the normalised mean of its normalised prompt embeddings. `learned:FOLDER` takes the prompts that
            `PromptLearning` has written there.
        negative_prompts: with learned prompts, those of negative labels: `fixed`, the prompts of their list, or
            `learned`, the context of the ID classes.
    """

    def __init__(
        self,
        encoder: EncoderSettings,
        class_names: str | list[str],
        scores: dict[str, AbstractScore],
        prompts: str | list[str] = "a photo of a {}",
        negative_prompts: Literal["fixed", "learned"] = "fixed",
    ) -> None:
        super().__init__(encoder, class_names, scores)
        check_choice("`model.negative_prompts`", negative_prompts, ("fixed", "learned"))
        self.learned: LearnedPrompts | None = None
        if isinstance(prompts, str) and prompts.startswith(LEARNED):
            found = load_prompts(prompts.removeprefix(LEARNED))
            found.check(self.encoder)
            self.learned = replace(found, for_words=negative_prompts == "learned")
            if self.learned.for_words:
                self.learned.shared()
        elif negative_prompts == "learned":
            raise MmoodError(
                "`model.negative_prompts` is learned, but `model.prompts` names no learned prompts; set it to "
                f"{LEARNED}FOLDER, or leave `model.negative_prompts` out."
            )
        self.templates = load_templates(prompts) if self.learned is None else self.learned.templates
        self._prototypes: Tensor | None = None

    def logits(self, encoded: EncodedImages) -> Float[Tensor, "batch classes"]:
        """Return the raw cosines of the embeddings with the prototypes."""
        if encoded.embedding is None or self._prototypes is None:
            raise MmoodError("ZeroShot needs text prototypes to make logits; call fit_scores() first.")
        # After a run a Trainer takes the weights back to the CPU, but not what is no parameter.
        return encoded.embedding @ self._prototypes.to(encoded.embedding.device).T

    def reference(self) -> Reference:
        """Return the class names and their text prototypes, made now."""
        reference = ModelReference(
            self.encoder, self.class_names, self.templates, provider=self.provider, learned=self.learned
        )
        self._prototypes = reference.prototypes
        return reference

    def trained_state(self) -> dict[str, Tensor]:
        """Return nothing: a zero-shot detector trains nothing."""
        return {}

    def details(self) -> dict[str, object]:
        """Return the prompt templates, with named sets resolved, or what learned them and how."""
        if self.learned is None:
            return {"prompts": list(self.templates)}
        recipe = dict(self.learned.recipe)
        return {"prompts": self.learned.describe(), "learned_by": self.learned.method, "recipe": recipe}

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Refuse to train."""
        raise MmoodError("ZeroShot has nothing to train; use `mmood test` or `mmood predict`.")

    def configure_optimizers(self) -> None:
        """Refuse to train before any work starts."""
        raise MmoodError("ZeroShot has nothing to train; use `mmood test` or `mmood predict`.")
