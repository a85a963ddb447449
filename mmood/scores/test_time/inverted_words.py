"""The memory of inverted images: which are inverted, which text embeddings are kept, and how a state of them reads."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self, final

import torch
from jaxtyping import Bool, Float, Float32, Int64
from torch import Tensor

from mmood.errors import MmoodError
from mmood.scores.test_time.memory import check_places, check_unit
from mmood.words.criteria import inter_modal_deviation


@final
@dataclass(frozen=True)
class InvertedWords:
    """Text embeddings that test images were inverted into, in descending order of their deviation.

    Attributes:
        bank: (K, D) unit-norm text embeddings.
        deviation: (K,) mean_c (b_c - cos(e, p_c)) of each.
        place: (K,) position in the stream of the image behind each.
    """

    bank: Float32[Tensor, "kept dim"]
    deviation: Float32[Tensor, " kept"]
    place: Int64[Tensor, " kept"]

    def __len__(self) -> int:
        """Return K."""
        return len(self.place)

    def __getitem__(self, rows: slice | Tensor) -> Self:
        """Return some of the embeddings; rows that are given as indices must ascend."""
        return type(self)(self.bank[rows], self.deviation[rows], self.place[rows])

    @classmethod
    def ranked(
        cls, bank: Float[Tensor, "words dim"], deviation: Float[Tensor, " words"], place: Int64[Tensor, " words"]
    ) -> Self:
        """Return embeddings in descending order of their deviation; equal ones keep their order."""
        deviation, order = deviation.sort(descending=True, stable=True)
        return cls(bank[order], deviation, place[order])

    def joined(self, other: InvertedWords) -> Self:
        """Return these and others in one order; of equal deviations, these come first."""
        bank, place = torch.cat([self.bank, other.bank]), torch.cat([self.place, other.place])
        return self.ranked(bank, torch.cat([self.deviation, other.deviation]), place)

    def check(self, owner: str, seen: int) -> None:
        """Raise MmoodError unless these can be inversions of the first `seen` images of a stream.

        Args:
            owner: how messages call the score.
            seen: images so far.
        """
        check_places(owner, self.place, seen)
        check_unit(owner, "bank", self.bank)
        if (self.deviation.diff() > 0).any():
            raise MmoodError(
                f"The state of {owner} is inconsistent: the deviations in its bank are not in descending order."
            )


def no_words(texts: Float[Tensor, "texts dim"]) -> InvertedWords:
    """Return no embeddings, of the width of these texts and on their device."""
    none = texts[:0].clone()
    return InvertedWords(none, none.new_empty(0), torch.empty(0, dtype=torch.int64, device=texts.device))


def admitted(
    embedding: Float[Tensor, "batch dim"],
    gated: Bool[Tensor, " batch"],
    seen: Int64[Tensor, ""],
    invert: Callable[[Float[Tensor, "gated dim"]], Float[Tensor, "gated dim"]],
    proxies: Float[Tensor, "classes dim"],
    positive: Float[Tensor, "classes dim"],
) -> tuple[InvertedWords, Bool[Tensor, " batch"]]:
    """Return the inversions that are farther from the images of every class than its name is, and whose they are.

    Args:
        embedding: images of a batch.
        gated: which of them are inverted.
        seen: images of the stream before this batch.
        invert: from images to the unit-norm text embeddings that they are inverted into.
        proxies: mean image embedding of each class.
        positive: embeddings of the ID names.
    """
    row = gated.nonzero().squeeze(-1)
    words = invert(embedding[row])
    admissible, deviation = inter_modal_deviation(words, proxies, positive)
    accepted = gated.clone()
    accepted[row] = admissible
    return InvertedWords.ranked(words[admissible], deviation[admissible], seen + row[admissible]), accepted


def gate(log_odds: Float[Tensor, " batch"], beta: float, strict: bool = False) -> Bool[Tensor, " batch"]:
    """Return which images have S <= beta (S < beta if `strict`), of the log-odds of S.

    >>> gate(torch.tensor([-1.0, 0.0, 1.0]), 0.5)
    tensor([ True,  True, False])
    """
    limit = math.inf if beta == 1 else -math.inf if beta == 0 else math.log(beta / (1 - beta))
    return log_odds < limit if strict else log_odds <= limit
