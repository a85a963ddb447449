"""Adaptive prototypes: texts together with the test images under them, as AdaNeg and CoEvo remember a stream."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self, final

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from mmood.scores.test_time.base import Kept
from mmood.scores.test_time.functional_adaneg import entropy
from mmood.scores.test_time.image_memory import ImageMemory
from mmood.scores.test_time.image_proxies import AbstractProxies, Proxies, proxies_of
from mmood.scores.test_time.memory import Derived
from mmood.scores.test_time.rows import Rows


@final
@dataclass(frozen=True)
class AdaptivePrototypes:
    """T texts, the test images under each, and the proxies that these make of the texts.

    Attributes:
        memory: the images.
        texts: (T, D) unit-norm embeddings.
        proxies: what images make of a text.
        table: (T, ...) the proxies' entry of each text that has images.
    """

    memory: ImageMemory
    texts: Derived[Float[Tensor, "texts dim"]]
    proxies: Derived[AbstractProxies]
    table: Derived[Rows]

    @classmethod
    def of(cls, rows: Mapping[str, Tensor], texts: Float[Tensor, "texts dim"], settings: Proxies, length: int) -> Self:
        """Return the prototypes of texts with these images under them.

        Args:
            rows: the images, see `ImageMemory.of`.
            texts: (T, D) unit-norm embeddings.
            settings: of the proxies.
            length: images that a text can take; may differ from that of the settings.

        Raises:
            MmoodError: a text is unknown or has too many images.
        """
        memory, proxies = ImageMemory.of(rows, len(texts), length, settings.replace), proxies_of(settings)
        table, filled = texts.new_empty(len(texts), *proxies.shape(texts, length)), memory.filled()
        table[filled] = proxies.entries(texts, filled, memory)
        return cls(memory, texts, proxies, Rows(table))

    def keep(
        self,
        image: Float[Tensor, "new dim"],
        text: Int64[Tensor, " new"],
        entropy: Float[Tensor, " new"],
        place: Int64[Tensor, " new"],
    ) -> Self:
        """Return the prototypes with more images, one after another; `ImageMemory.insert` says which stay."""
        memory, touched = self.memory.insert(image, text, entropy, place)
        table = self.table.written(touched, self.proxies.entries(self.texts, touched, memory))
        return replace(self, memory=memory, table=table)

    def keep_confident(
        self,
        image: Float[Tensor, "batch dim"],
        gated: tuple[Bool[Tensor, " batch"], Bool[Tensor, " batch"]],
        logits: tuple[Float[Tensor, "id classes"], Float[Tensor, "ood words"]],
        words: Int64[Tensor, " words"],
        seen: Int64[Tensor, ""],
    ) -> Self:
        """Return the prototypes with confident images under their nearest ID name or negative label.

        The entropy of an image is that over the ID names, or over the negatives.

        Args:
            image: images of a batch.
            gated: which of them are taken for ID, and for OoD.
            logits: of the former with the ID names, which are the first texts, and of the latter with the negatives.
            words: the negatives, as places among the texts.
            seen: images of the stream before this batch.
        """
        confident = torch.cat([side.nonzero() for side in gated]).squeeze(-1)
        names, negatives = logits
        return self.keep(
            image[confident],
            torch.cat([names.argmax(-1), words[negatives.argmax(-1)]]),
            torch.cat([entropy(names), entropy(negatives)]),
            seen + confident,
        )

    def logits(
        self, texts: Int64[Tensor, " some"], embedding: Float[Tensor, "batch dim"], temperature: float
    ) -> Float[Tensor, "some batch"]:
        """Return the cosines of images with the proxies of texts that have images, divided by the temperature."""
        return self.proxies.logits(self.texts, texts, self.table.tensor(), self.memory, embedding, temperature)

    def members(self, classes: int) -> Kept:
        """Return the positions of the images under the first `classes` texts, and of those under the others."""
        place, is_id = self.memory.place.tensor(), self.memory.text.tensor() < classes
        return {"id": place[is_id], "ood": place[~is_id]}
