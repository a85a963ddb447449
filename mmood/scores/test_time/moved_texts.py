"""Texts that test images move: what AdaNeg and CoEvo remember of a stream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, final

from jaxtyping import Float, Int64
from torch import Tensor

from mmood.scores.test_time.image_memory import ImageMemory
from mmood.scores.test_time.image_proxies import AbstractProxies, Proxies, SampleProxies, TaskProxies


@final
class MovedTexts:
    """T texts, the test images under each, and the proxies that these make of the texts.

    Args:
        texts: (T, D) unit-norm embeddings.
        settings: of the proxies.
        length: images that a text can take; may differ from that of the settings.
    """

    def __init__(self, texts: Float[Tensor, "texts dim"], settings: Proxies, length: int) -> None:
        self.memory = ImageMemory(len(texts), length, texts.shape[1], settings.replace, texts.device)
        self.proxies: AbstractProxies = (
            TaskProxies(texts) if settings.kind == "task" else SampleProxies(texts, length, settings.beta)
        )

    def keep(
        self,
        image: Float[Tensor, "new dim"],
        text: Int64[Tensor, " new"],
        entropy: Float[Tensor, " new"],
        place: Int64[Tensor, " new"],
    ) -> None:
        """Put images under texts, one after another; `ImageMemory.insert` says which stay."""
        self.proxies.update(self.memory.insert(image, text, entropy, place), self.memory)

    def logits(
        self, texts: Int64[Tensor, " some"], embedding: Float[Tensor, "batch dim"], temperature: float
    ) -> Float[Tensor, "some batch"]:
        """Return the cosines of images with the proxies of texts that have images, divided by the temperature."""
        return self.proxies.logits(texts, self.memory, embedding, temperature)

    def places(self, classes: int) -> dict[Literal["id", "ood"], Int64[Tensor, " kept"]]:
        """Return the places of the images under the first `classes` texts, and of those under the others."""
        rows = self.memory.rows()
        is_id = rows["text"] < classes
        return {"id": rows["place"][is_id], "ood": rows["place"][~is_id]}

    def state(self) -> dict[str, Tensor]:
        """Return copies of the kept images with their texts, entropies and places."""
        return {name: tensor.clone() for name, tensor in self.memory.rows().items()}

    def load(self, rows: Mapping[str, Tensor]) -> None:
        """Take back what `state` returned; MmoodError if a text is unknown or has too many images."""
        self.memory.load(rows)
        self.proxies.update(self.memory.filled(), self.memory)
