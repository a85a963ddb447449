"""A memory of test images under the texts that they stand for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Self, final

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from mmood.errors import MmoodError
from mmood.scores.test_time.functional_adaneg import lowest_of_each
from mmood.scores.test_time.memory import Derived, check_places, check_range, check_unit
from mmood.scores.test_time.rows import Rows


@final
@dataclass(frozen=True)
class ImageMemory:
    """At most `length` images under each of T texts: those with the lowest entropy, or the first ones.

    Only kept images take room: their rows stand in one table, and `slots` says which rows a text has. A dense (T, L, D)
    table would be 225 MB for AdaNeg on ImageNet from the first image on.

    Attributes:
        image: (K, D) the kept images.
        text: (K,) that each is under.
        entropy: (K,) of each.
        place: (K,) position of each in the stream.
        slots: (T, L) rows of each text's images by rising entropy (or in the order of arrival), -1 where there is none.
        lowest: keep those with the lowest entropy; off, the first ones.
    """

    image: Annotated[Rows, Float32[Tensor, "kept dim"]]
    text: Annotated[Rows, Int64[Tensor, " kept"]]
    entropy: Annotated[Rows, Float32[Tensor, " kept"]]
    place: Annotated[Rows, Int64[Tensor, " kept"]]
    slots: Derived[Rows]
    lowest: Derived[bool]

    @classmethod
    def of(cls, rows: Mapping[str, Tensor], texts: int, length: int, lowest: bool) -> Self:
        """Return the memory that has these images.

        Args:
            rows: `image`, `text`, `entropy` and `place`, one row for each image.
            texts: T.
            length: L.
            lowest: see the class.

        Raises:
            MmoodError: a text that is not there, or more images under one text than `length`.
        """
        text = rows["text"]
        if len(text) and not 0 <= int(text.min()) <= int(text.max()) < texts:
            wrong = int(text.min()) if int(text.min()) < 0 else int(text.max())
            raise MmoodError(f"The state has an image under text {wrong}, but there are {texts} texts.")
        if (most := int(text.bincount(minlength=1).max())) > length:
            raise MmoodError(f"The state has {most} images under one text, but `length` allows only {length}.")
        arrival = rows["place"].argsort()
        key = rows["entropy"] if lowest else torch.zeros_like(rows["entropy"])
        order, rank = lowest_of_each(text[arrival], key[arrival], length)
        row = arrival[order]
        slots = torch.full((texts, length), -1, dtype=torch.int64, device=text.device)
        slots[text[row], rank] = row
        most = texts * length
        return cls(
            *(Rows(rows["image"], most), Rows(text, most), Rows(rows["entropy"], most), Rows(rows["place"], most)),
            slots=Rows(slots),
            lowest=lowest,
        )

    def filled(self) -> Int64[Tensor, " filled"]:
        """Return the texts that have images."""
        return (self.slots.tensor()[:, :1] >= 0).any(dim=-1).nonzero().squeeze(-1)

    def images(self, texts: Int64[Tensor, " some"]) -> Float[Tensor, "some length dim"]:
        """Return the images of some texts, a copy; zero rows where there are fewer than L."""
        slots, image = self.slots.tensor()[texts], self.image.tensor()
        table = image.new_zeros(*slots.shape, image.shape[1])
        table[slots >= 0] = image[slots[slots >= 0]]
        return table

    def cosines(
        self, texts: Int64[Tensor, " some"], embedding: Float[Tensor, "batch dim"]
    ) -> Float[Tensor, "some length batch"]:
        """Return the inner products of embeddings with the images of some texts; zero where there are fewer than L."""
        slots = self.slots.tensor()[texts]
        table = embedding.new_zeros(*slots.shape, len(embedding))
        table[slots >= 0] = self.image.tensor()[slots[slots >= 0]] @ embedding.T
        return table

    def insert(
        self,
        image: Float[Tensor, "new dim"],
        text: Int64[Tensor, " new"],
        entropy: Float[Tensor, " new"],
        place: Int64[Tensor, " new"],
    ) -> tuple[Self, Int64[Tensor, " touched"]]:
        """Return the memory after taking images in, one after another in this order, and the texts asked to take one.

        An image whose text is full replaces that with the highest entropy if its own is strictly lower; else it is
        dropped. All texts are worked on at once.
        """
        texts, length = self.slots.tensor().shape
        touched = text.bincount(minlength=texts).nonzero().squeeze(-1)
        new_owner = torch.searchsorted(touched, text)
        slots = self.slots.tensor()[touched]
        old_owner, old = (slots >= 0).nonzero()[:, 0], slots[slots >= 0]
        key = torch.cat([self.entropy.tensor()[old], entropy])
        owner = torch.cat([old_owner, new_owner])
        kept, rank = lowest_of_each(owner, key if self.lowest else torch.zeros_like(key), length)
        taken = kept >= len(old)
        fresh = kept[taken] - len(old)
        free, count = self._free(old, kept[~taken], len(fresh))
        row = torch.empty_like(kept)
        row[~taken] = old[kept[~taken]]
        row[taken] = free
        slots = torch.full_like(slots, -1)
        slots[owner[kept], rank] = row
        memory = replace(
            self,
            image=self.image.written(free, image[fresh], count),
            text=self.text.written(free, text[fresh], count),
            entropy=self.entropy.written(free, entropy[fresh], count),
            place=self.place.written(free, place[fresh], count),
            slots=self.slots.written(touched, slots),
        )
        return memory, touched

    def _free(self, old: Tensor, kept: Tensor, count: int) -> tuple[Int64[Tensor, " count"], int]:
        """Return `count` rows to write to, those of `old` not among `kept`, then new ones; and how many there are."""
        gone: Tensor = torch.ones_like(old, dtype=torch.bool)
        gone[kept] = False
        start = len(self.text)
        length = start + count - int(gone.sum())
        return torch.cat([old[gone], torch.arange(start, length, device=old.device)]), length


def no_images(texts: Float[Tensor, "texts dim"]) -> dict[str, Tensor]:
    """Return the rows of a memory without images, for images of the size and place of these texts."""
    none = torch.empty(0, dtype=torch.int64, device=texts.device)
    return {"image": texts[:0].clone(), "text": none, "entropy": texts.new_empty(0), "place": none.clone()}


def check_images(owner: str, rows: Mapping[str, Tensor], seen: int) -> None:
    """Raise MmoodError unless saved rows can be of images among the first `seen` of a stream."""
    check_places(owner, rows["place"], seen)
    check_unit(owner, "image", rows["image"])
    check_range(owner, "entropy", rows["entropy"], 0)
