"""What ANTS remembers of a stream: images that wait to be described, descriptions, look-alikes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self, final

import torch
from jaxtyping import Float, Float32, Int64, UInt8
from torch import Tensor

from mmood.errors import MmoodError
from mmood.scores.test_time.memory import check_places, check_range, check_unit


@final
@dataclass(frozen=True)
class Waiting:
    """Images that are to be described.

    Attributes:
        waiting: small squares, see `ants_questions.squares`.
        waiting_class: the class predicted for each.
        waiting_place: position of each in the stream.
    """

    waiting: UInt8[Tensor, "waiting height width 3"]
    waiting_class: Int64[Tensor, " waiting"]
    waiting_place: Int64[Tensor, " waiting"]

    @classmethod
    def of(cls, saved: Mapping[str, Tensor]) -> Self:
        """Return those of saved tensors."""
        return cls(saved["waiting"], saved["waiting_class"], saved["waiting_place"])

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self.waiting_place)

    def joined(self, images: Tensor, label: Tensor, place: Tensor) -> Self:
        """Return these and others behind them."""
        return type(self)(
            torch.cat([self.waiting, images]),
            torch.cat([self.waiting_class, label]),
            torch.cat([self.waiting_place, place]),
        )

    def none(self) -> Self:
        """Return no images, of the same size."""
        return type(self)(self.waiting[:0], self.waiting_class[:0], self.waiting_place[:0])

    def check(self, seen: int, classes: int, side: int) -> None:
        """Raise MmoodError unless these can be images of a stream.

        Args:
            seen: images so far.
            classes: C.
            side: of the squares.
        """
        check_places("ANTS", self.waiting_place, seen)
        check_range("ANTS", "waiting_class", self.waiting_class, 0, classes - 1)
        if tuple(self.waiting.shape[1:3]) != (side, side):
            raise MmoodError(f"The state's 'waiting' holds images of another size than descriptions.side, {side}.")


@final
@dataclass(frozen=True)
class Sentences:
    """Descriptions, the newest first.

    Attributes:
        sentences: unit-norm text embeddings.
        sentence_hash: of the text of each.
        sentence_place: position of the image behind each.
    """

    sentences: Float32[Tensor, "sentences dim"]
    sentence_hash: Int64[Tensor, " sentences"]
    sentence_place: Int64[Tensor, " sentences"]

    @classmethod
    def of(cls, saved: Mapping[str, Tensor]) -> Self:
        """Return those of saved tensors."""
        return cls(saved["sentences"], saved["sentence_hash"], saved["sentence_place"])

    def __len__(self) -> int:
        """Return their number."""
        return len(self.sentence_place)

    def preceded(
        self, embedding: Float[Tensor, "new dim"], hashes: Iterable[int], places: Iterable[int], most: int
    ) -> Self:
        """Return others and, behind them, these; the last ones are dropped.

        Args:
            embedding: of the others.
            hashes: of their texts.
            places: of their images.
            most: how many there are, at most.
        """
        hashed = torch.cat([self.sentence_hash.new_tensor(list(hashes)), self.sentence_hash])
        placed = torch.cat([self.sentence_place.new_tensor(list(places)), self.sentence_place])
        return type(self)(torch.cat([embedding, self.sentences])[:most], hashed[:most], placed[:most])

    def check(self, seen: int) -> None:
        """Raise MmoodError unless these can be descriptions of images of a stream."""
        check_unit("ANTS", "sentences", self.sentences)
        check_places("ANTS", self.sentence_place, seen)
        if len(set(self.sentence_hash.tolist())) < len(self):
            raise MmoodError("The state of ANTS is inconsistent: it holds a description twice.")


@final
@dataclass(frozen=True)
class Near:
    """Names that look like ID classes.

    Attributes:
        near: unit-norm text embeddings.
        near_class: the class that each looks like.
    """

    near: Float32[Tensor, "near dim"]
    near_class: Int64[Tensor, " near"]

    @classmethod
    def of(cls, saved: Mapping[str, Tensor]) -> Self:
        """Return those of saved tensors."""
        return cls(saved["near"], saved["near_class"])

    def __len__(self) -> int:
        """Return their number."""
        return len(self.near_class)

    def check(self, classes: int) -> None:
        """Raise MmoodError unless these can be look-alikes of C classes."""
        check_unit("ANTS", "near", self.near)
        check_range("ANTS", "near_class", self.near_class, 0, classes - 1)


def text_hash(text: str) -> int:
    """Return 63 bits of a text's sha256."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1
