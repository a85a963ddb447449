"""The prompts of the ID classes as training texts: which one belongs to which image, and which are encoded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from jaxtyping import Int
from torch import Tensor

from mmood.encoders.prompts import fill
from mmood.encoders.vision_language import VisionLanguageEncoder
from mmood.losses import Pairs
from mmood.shards.hashes import digest

Candidates = Literal["pairs", "distinct", "classes"]
"""The texts of a step: one per image; each distinct one once (the same loss, less work); one per ID class."""


class Captions:
    """Token ids of every prompt of every class; prompt p of class c has the id `c * templates + p`.

    Args:
        encoder: whose tokenizer and device are used.
        class_names: the ID classes, in the order of the labels.
        templates: prompt templates; with several, each image draws one, as in FLYP (arXiv 2212.00638).
    """

    def __init__(self, encoder: VisionLanguageEncoder, class_names: Sequence[str], templates: Sequence[str]) -> None:
        self.tokens = encoder.tokenize([fill(template, name) for name in class_names for template in templates])
        self.templates = len(templates)
        self.classes = len(class_names)

    def of_images(
        self, labels: Int[Tensor, " images"], keys: Int[Tensor, " images"], epoch: int
    ) -> Int[Tensor, " images"]:
        """Return the id of each image's prompt, a function of epoch and key: a resumed run draws the same."""
        if self.templates == 1:
            return labels
        drawn = [digest(epoch, key) % self.templates for key in keys.tolist()]
        return labels * self.templates + torch.tensor(drawn, device=labels.device)

    def of_classes(self, step: int) -> Int[Tensor, " classes"]:
        """Return the id of one prompt per class: a pure function of the step."""
        drawn = [digest(step, label) % self.templates for label in range(self.classes)]
        return torch.tensor(
            [label * self.templates + prompt for label, prompt in enumerate(drawn)], device=self.tokens.device
        )

    def expected(self, candidates: Candidates, images: int) -> int:
        """Return about how many texts a step with so many images of all devices encodes, for classes of equal size.

        >>> round(1000 * (1 - (1 - 1 / 1000) ** 512))  # distinct ones of 512 images of 1,000 classes
        401
        """
        if candidates == "pairs":
            return images
        if candidates == "classes":
            return self.classes
        texts = self.classes * self.templates
        return round(texts * (1 - (1 - 1 / texts) ** images))

    def class_of(self, ids: Int[Tensor, " texts"]) -> Int[Tensor, " texts"]:
        """Return the class of each prompt."""
        return ids // self.templates


def with_classes(pairs: Pairs, captions: Captions, texts: Int[Tensor, " texts"]) -> Pairs:
    """Return the pairs with all texts of an image's class as its positives."""
    classes = captions.class_of(texts)
    return replace(pairs, image_class=classes[pairs.text], text_class=classes)
