"""A memory of test images under the texts that they stand for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from mmood.errors import MmoodError
from mmood.scores.test_time.functional_adaneg import lowest_of_each

FIRST_ROWS = 1024


@final
class ImageMemory:
    """At most `length` images under each of T texts: those with the lowest entropy, or the first ones.

    Only kept images take room: their rows stand in one table that grows by doubling, and `slots` says which rows a text
    has. A dense (T, L, D) table would be 225 MB for AdaNeg on ImageNet from the first image on.

    Args:
        texts: T.
        length: L.
        dim: D.
        replace: keep those with the lowest entropy; off, the first ones.
        device: of all tensors.

    Attributes:
        slots: (T, L) rows of each text's images by rising entropy (or in the order of arrival), -1 where there is none.
    """

    def __init__(self, texts: int, length: int, dim: int, replace: bool, device: torch.device) -> None:
        self.length = length
        self.replace = replace
        self.kept = 0
        # A tensor made in inference mode could not be written to outside of it.
        with torch.inference_mode(False):
            self.slots = torch.full((texts, length), -1, dtype=torch.int64, device=device)
            self._rows = {
                "image": torch.empty(0, dim, device=device),
                "text": torch.empty(0, dtype=torch.int64, device=device),
                "entropy": torch.empty(0, device=device),
                "place": torch.empty(0, dtype=torch.int64, device=device),
            }

    def rows(self) -> dict[str, Tensor]:
        """Return the kept images (K, D), their texts, entropies and places in the stream, (K,) each; not copies."""
        return {name: tensor[: self.kept] for name, tensor in self._rows.items()}

    def filled(self) -> Int64[Tensor, " filled"]:
        """Return the texts that have images."""
        return (self.slots[:, :1] >= 0).any(dim=-1).nonzero().squeeze(-1)

    def images(self, texts: Int64[Tensor, " some"]) -> Float[Tensor, "some length dim"]:
        """Return the images of some texts, a copy; zero rows where there are fewer than L."""
        slots = self.slots[texts]
        table = self._rows["image"].new_zeros(*slots.shape, self._rows["image"].shape[1])
        table[slots >= 0] = self._rows["image"][slots[slots >= 0]]
        return table

    def cosines(
        self, texts: Int64[Tensor, " some"], embedding: Float[Tensor, "batch dim"]
    ) -> Float[Tensor, "some length batch"]:
        """Return the inner products of embeddings with the images of some texts; zero where there are fewer than L."""
        slots = self.slots[texts]
        table = embedding.new_zeros(*slots.shape, len(embedding))
        table[slots >= 0] = self._rows["image"][slots[slots >= 0]] @ embedding.T
        return table

    def insert(
        self,
        image: Float[Tensor, "new dim"],
        text: Int64[Tensor, " new"],
        entropy: Float[Tensor, " new"],
        place: Int64[Tensor, " new"],
    ) -> Int64[Tensor, " touched"]:
        """Take images in, one after another in this order, and return the texts that were asked to take one.

        An image whose text is full replaces that with the highest entropy if its own is strictly lower; else it is
        dropped. All texts are worked on at once.
        """
        touched = text.bincount(minlength=len(self.slots)).nonzero().squeeze(-1)
        new_owner = torch.searchsorted(touched, text)
        slots = self.slots[touched]
        old_owner, old = (slots >= 0).nonzero()[:, 0], slots[slots >= 0]
        key = torch.cat([self._rows["entropy"][old], entropy])
        owner = torch.cat([old_owner, new_owner])
        kept, rank = lowest_of_each(owner, key if self.replace else torch.zeros_like(key), self.length)
        taken = kept >= len(old)
        fresh = kept[taken] - len(old)
        row = torch.empty_like(kept)
        row[~taken] = old[kept[~taken]]
        row[taken] = self._free(old, kept[~taken], len(fresh))
        for name, values in {"image": image, "text": text, "entropy": entropy, "place": place}.items():
            self._rows[name][row[taken]] = values[fresh].to(self._rows[name].dtype)
        self.slots[touched] = -1
        self.slots[touched[owner[kept]], rank] = row
        return touched

    def load(self, rows: Mapping[str, Tensor]) -> None:
        """Take the rows of `rows()` in place of those that are here.

        Raises:
            MmoodError: a text that is not there, or more images under one text than `length`.
        """
        text, texts = rows["text"], len(self.slots)
        if len(text) and not 0 <= int(text.min()) <= int(text.max()) < texts:
            raise MmoodError(f"The state has an image under text {int(text.max())}, but there are {texts} texts.")
        if (most := int(text.bincount(minlength=1).max())) > self.length:
            raise MmoodError(f"The state has {most} images under one text; length allows {self.length}.")
        self.kept = len(text)
        with torch.inference_mode(False):
            self._rows = {name: rows[name].clone() for name in self._rows}
        arrival = rows["place"].argsort()
        key = rows["entropy"] if self.replace else torch.zeros_like(rows["entropy"])
        order, rank = lowest_of_each(text[arrival], key[arrival], self.length)
        row = arrival[order]
        self.slots.fill_(-1)
        self.slots[text[row], rank] = row

    def _free(self, old: Tensor, kept: Tensor, count: int) -> Int64[Tensor, " count"]:
        """Return `count` rows to write to: those of `old` that are not among `kept`, then new ones."""
        gone: Tensor = torch.ones_like(old, dtype=torch.bool)
        gone[kept] = False
        start, self.kept = self.kept, self.kept + count - int(gone.sum())
        if self.kept > len(self._rows["text"]):
            self._grow()
        added = torch.arange(start, self.kept, device=old.device)
        return torch.cat([old[gone], added])

    def _grow(self) -> None:
        size = min(max(2 * len(self._rows["text"]), self.kept, FIRST_ROWS), self.slots.numel())
        with torch.inference_mode(False):
            for name, rows in self._rows.items():
                larger = rows.new_empty(size, *rows.shape[1:])
                larger[: len(rows)] = rows
                self._rows[name] = larger
