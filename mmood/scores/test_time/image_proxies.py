"""AdaNeg's proxies: what stands for a text once test images were put under it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, final

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from mmood.errors import MmoodError
from mmood.scores.test_time.functional_adaneg import gram, sample_cosines, task_proxies
from mmood.scores.test_time.image_memory import ImageMemory

Kind = Literal["sample", "task"]

CHUNK = 512
"""Texts that are worked on at a time: bounds the memory and changes no result."""


@dataclass(frozen=True)
class Proxies:
    """How test images change the place of a text.

    Attributes:
        kind: `sample`, where an image weighs those of the memory by their likeness to it, or `task`, their plain mean.
        beta: how sharply likeness counts in `sample`.
        length: L, images that a text can take besides itself.
        replace: a full text gives up its image of the highest entropy for one of lower entropy. Off, the first images
            stay: in the released code's float16 the entropies are no numbers, so that nothing is ever replaced.
    """

    kind: Kind = "sample"
    beta: float = 5.5
    length: int = 10
    replace: bool = True

    def __post_init__(self) -> None:
        if self.kind not in ("sample", "task"):
            raise MmoodError(f"proxies.kind is '{self.kind}'; it must be 'sample' or 'task'.")
        if self.length < 1:
            raise MmoodError(f"proxies.length is {self.length}; a text must have room for at least 1 image.")
        if not 0 <= self.beta <= 80:
            raise MmoodError(f"proxies.beta is {self.beta}; it must lie in [0, 80], beyond which weights underflow.")


PROXIES = Proxies()
"""AdaNeg's proxies."""


def chunks(rows: Tensor) -> Iterator[Tensor]:
    """Yield runs of `CHUNK` rows."""
    for first in range(0, len(rows), CHUNK):
        yield rows[first : first + CHUNK]


class AbstractProxies(ABC):
    """What is kept of the memory between batches, so that the images of a text are read once when they change."""

    @abstractmethod
    def update(self, texts: Int64[Tensor, " touched"], memory: ImageMemory) -> None:
        """Learn of the images of some texts."""

    @abstractmethod
    def logits(
        self,
        texts: Int64[Tensor, " filled"],
        memory: ImageMemory,
        embedding: Float[Tensor, "batch dim"],
        temperature: float,
    ) -> Float[Tensor, "filled batch"]:
        """Return the cosines of images with the proxies of texts that have images, divided by the temperature.

        Args:
            texts: which texts.
            memory: their images.
            embedding: (B, D) of the images to score.
            temperature: divides the cosines.
        """


@final
class TaskProxies(AbstractProxies):
    """The unit-norm mean of each text and its images."""

    def __init__(self, texts: Float[Tensor, "texts dim"]) -> None:
        self.texts = texts
        with torch.inference_mode(False):
            self.table = torch.empty_like(texts)

    def update(self, texts: Int64[Tensor, " touched"], memory: ImageMemory) -> None:
        """Take the mean anew, from the images and not from the last mean, so that no error piles up."""
        for part in chunks(texts):
            self.table[part] = task_proxies(self.texts[part], memory.images(part))

    def logits(
        self,
        texts: Int64[Tensor, " filled"],
        memory: ImageMemory,
        embedding: Tensor,
        temperature: float,
    ) -> Float[Tensor, "filled batch"]:
        """Return one product with the table."""
        return self.table[texts] @ (embedding / temperature).T


@final
class SampleProxies(AbstractProxies):
    """The inner products among each text and its images, from which follows the norm of any weighted sum of them."""

    def __init__(self, texts: Float[Tensor, "texts dim"], length: int, beta: float) -> None:
        self.texts = texts
        self.beta = beta
        with torch.inference_mode(False):
            self.inner = texts.new_empty(len(texts), length + 1, length + 1)

    def update(self, texts: Int64[Tensor, " touched"], memory: ImageMemory) -> None:
        """Take the inner products anew."""
        for part in chunks(texts):
            self.inner[part] = gram(self.texts[part], memory.images(part))

    def logits(
        self,
        texts: Int64[Tensor, " filled"],
        memory: ImageMemory,
        embedding: Tensor,
        temperature: float,
    ) -> Float[Tensor, "filled batch"]:
        """Return those with proxies of which each image has its own."""
        found = [embedding.new_empty(0, len(embedding))]
        for part in chunks(texts):
            own = self.texts[part] @ embedding.T
            places = torch.cat([own.unsqueeze(1), memory.cosines(part, embedding)], dim=1)
            found.append(sample_cosines(places, self.inner[part], self.beta) / temperature)
        return torch.cat(found)
