"""AdaNeg's proxies: what stands for a text once test images were put under it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, final

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from mmood.scores.test_time.functional_adaneg import gram, sample_cosines, task_proxies
from mmood.scores.test_time.image_memory import ImageMemory
from mmood.settings import check_choice, check_count, check_number

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
        check_choice("proxies.kind", self.kind, ("sample", "task"))
        check_count("proxies.length", self.length)
        # Beyond 80 weights underflow.
        check_number("proxies.beta", self.beta, least=0, most=80)


PROXIES = Proxies()
"""AdaNeg's proxies."""


def chunks(rows: Tensor) -> Iterator[Tensor]:
    """Yield runs of `CHUNK` rows."""
    for first in range(0, len(rows), CHUNK):
        yield rows[first : first + CHUNK]


class AbstractProxies(ABC):
    """What images make of a text: an entry for each text that has images, from which follow cosines with its proxy."""

    @abstractmethod
    def shape(self, texts: Float[Tensor, "texts dim"], length: int) -> tuple[int, ...]:
        """Return the shape of an entry, for texts like these and up to `length` images."""

    @abstractmethod
    def entries(
        self, texts: Float[Tensor, "texts dim"], some: Int64[Tensor, " some"], memory: ImageMemory
    ) -> Float[Tensor, "some ..."]:
        """Return the entries of some of the texts."""

    @abstractmethod
    def logits(
        self,
        texts: Float[Tensor, "texts dim"],
        some: Int64[Tensor, " some"],
        table: Float[Tensor, "texts ..."],
        memory: ImageMemory,
        embedding: Float[Tensor, "batch dim"],
        temperature: float,
    ) -> Float[Tensor, "some batch"]:
        """Return the cosines of images with the proxies of some texts, divided by the temperature.

        Args:
            texts: (T, D) of all texts.
            some: texts that have images.
            table: the entries of all texts.
            memory: the images of the texts.
            embedding: (B, D) of the images to score.
            temperature: divides the cosines.
        """


@final
class TaskProxies(AbstractProxies):
    """The unit-norm mean of each text and its images; an entry is the proxy itself."""

    def shape(self, texts: Float[Tensor, "texts dim"], length: int) -> tuple[int, ...]:
        """Return (D,)."""
        return (texts.shape[1],)

    def entries(
        self, texts: Float[Tensor, "texts dim"], some: Int64[Tensor, " some"], memory: ImageMemory
    ) -> Float[Tensor, "some dim"]:
        """Return the means, from the images and not from the last mean, so that no error piles up."""
        return torch.cat([texts[:0], *(task_proxies(texts[part], memory.images(part)) for part in chunks(some))])

    def logits(
        self,
        texts: Float[Tensor, "texts dim"],
        some: Int64[Tensor, " some"],
        table: Float[Tensor, "texts dim"],
        memory: ImageMemory,
        embedding: Float[Tensor, "batch dim"],
        temperature: float,
    ) -> Float[Tensor, "some batch"]:
        """Return one product with the table."""
        return table[some] @ (embedding / temperature).T


@final
class SampleProxies(AbstractProxies):
    """A weighted sum for each image; an entry is the inner products among a text and its images, from which its norm.

    Args:
        beta: how sharply likeness counts.
    """

    def __init__(self, beta: float) -> None:
        self.beta = beta

    def shape(self, texts: Float[Tensor, "texts dim"], length: int) -> tuple[int, ...]:
        """Return (L + 1, L + 1)."""
        return length + 1, length + 1

    def entries(
        self, texts: Float[Tensor, "texts dim"], some: Int64[Tensor, " some"], memory: ImageMemory
    ) -> Float[Tensor, "some places places"]:
        """Return the inner products."""
        places = memory.slots.tensor().shape[1] + 1
        none = texts.new_empty(0, places, places)
        return torch.cat([none, *(gram(texts[part], memory.images(part)) for part in chunks(some))])

    def logits(
        self,
        texts: Float[Tensor, "texts dim"],
        some: Int64[Tensor, " some"],
        table: Float[Tensor, "texts places places"],
        memory: ImageMemory,
        embedding: Float[Tensor, "batch dim"],
        temperature: float,
    ) -> Float[Tensor, "some batch"]:
        """Return the logits with proxies of which each image has its own."""
        found = [embedding.new_empty(0, len(embedding))]
        for part in chunks(some):
            own = texts[part] @ embedding.T
            places = torch.cat([own.unsqueeze(1), memory.cosines(part, embedding)], dim=1)
            found.append(sample_cosines(places, table[part], self.beta) / temperature)
        return torch.cat(found)


def proxies_of(settings: Proxies) -> AbstractProxies:
    """Return the proxies of the settings."""
    return TaskProxies() if settings.kind == "task" else SampleProxies(settings.beta)
