"""Textual inversion that begins at a word: the nearest negative label, its last token optimised."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor

from mmood.encoders.prompts import fill
from mmood.errors import MmoodError
from mmood.scores.base import Reference
from mmood.scores.test_time.inversion import descend, in_chunks, read_prompts
from mmood.scores.text_tower import TextTower
from mmood.settings import check_count, check_number

ROWS = 1024
"""Prompts that are tokenised at a time."""


@dataclass(frozen=True)
class WordInversion:
    """How images become words that begin as negative labels.

    Attributes:
        template: prompt of the word.
        steps: steps of AdamW.
        learning_rate: of AdamW.
        weight_decay: of AdamW.
        repulsion: lambda, weight of the term that keeps words away from the ID images.
        chunk: texts that pass the text tower at a time; bounds the memory and changes no result.
    """

    template: str = "a photo of a {}."
    steps: int = 30
    learning_rate: float = 0.02
    weight_decay: float = 0.01
    repulsion: float = 0.3
    chunk: int = 64

    def __post_init__(self) -> None:
        check_count("inversion.steps", self.steps)
        check_count("inversion.chunk", self.chunk)
        check_number("inversion.learning_rate", self.learning_rate, above=0)
        check_number("inversion.weight_decay", self.weight_decay, least=0)
        check_number("inversion.repulsion", self.repulsion, least=0)


WORD_INVERSION = WordInversion()
"""TINS's inversion."""


@dataclass(frozen=True)
class Starts:
    """The prompts of words at which an inversion can begin.

    Attributes:
        texts: M prompts.
        last: (M,) position of the last token of the word in each.
        embedding: (M, D) unit-norm embeddings of the prompts.
    """

    texts: tuple[str, ...]
    last: Int64[Tensor, " words"]
    embedding: Float[Tensor, "words dim"]

    def nearest(
        self, images: Float[Tensor, "images dim"], away: Float[Tensor, " dim"], repulsion: float
    ) -> Int64[Tensor, " images"]:
        """Return, for each image v, the word with the least 1 - cos(v, e_w) + lambda mean_c (1 + cos(e_w, p_c)).

        Args:
            images: unit-norm image embeddings.
            away: mean of the image proxies p_c.
            repulsion: lambda.
        """
        return (images @ self.embedding.T - repulsion * (self.embedding @ away)).argmax(dim=-1)


def read_starts(reference: Reference, words: Sequence[str], template: str) -> Starts:
    """Return the prompts of words as the text tower reads them.

    Words whose prompt does not fit the context of the text tower are left out, and so are those that the tokenizer
    joins with the rest of the template.

    Raises:
        MmoodError: an encoder without text tower, a template without exactly one place for a word, or no word is left.
    """
    tower = reference.text_tower
    around = read_prompts(tower, (template,))
    ids, first = around.tokens.ids[0], int(around.place[0])
    end = _without_padding(ids[first + 1 :])
    texts = [fill(template, word) for word in words]
    rows = range(0, len(texts), ROWS)
    last = torch.cat([last_tokens(tower.tokens(texts[row : row + ROWS]).ids, first, end) for row in rows])
    kept = tuple(text for text, place in zip(texts, last.tolist(), strict=True) if place >= 0)
    if not kept:
        raise MmoodError(
            f"None of the {len(texts)} negative labels can be separated from the template '{template}' of "
            "inversion.template; put a space or a full stop behind the word."
        )
    return Starts(kept, last[last >= 0], reference.encode_text(kept))


def last_tokens(ids: Int[Tensor, "texts length"], first: int, end: Int[Tensor, " end"]) -> Int64[Tensor, " texts"]:
    """Return the position of the last token before `end` in each text, where a word begins at `first`; -1 for none.

    >>> ids = torch.tensor([[7, 1, 2, 9, 0], [7, 1, 9, 0, 0], [7, 1, 2, 3, 4]])
    >>> last_tokens(ids, 1, torch.tensor([9]))
    tensor([ 2,  1, -1])
    """
    if ids.shape[1] < len(end):
        return torch.full((len(ids),), -1, device=ids.device)
    found = (ids.unfold(1, len(end), 1) == end).all(dim=-1)
    found[:, : first + 1] = False
    return torch.where(found.any(dim=-1), found.int().argmax(dim=-1) - 1, -1)


def invert_from_words(
    targets: Float[Tensor, "images dim"],
    starts: Starts,
    proxies: Float[Tensor, "classes dim"],
    tower: TextTower,
    settings: WordInversion,
) -> Float[Tensor, "images dim"]:
    """Return the unit-norm text embeddings of words that mean what images show (TINS, arXiv 2605.10756).

    Each image begins with the nearest word (`Starts.nearest`), whose last token is optimised by AdamW, all together, on
    mean_i (1 - cos(e_i, v_i)) + lambda mean_{i,c} (1 + cos(e_i, p_c)), e_i the text embedding of the prompt. The
    gradient of one image is free of the others but for the factor of the mean, so chunks follow the joint path.

    Args:
        targets: (A, D) unit-norm image embeddings v.
        starts: the prompts to begin with.
        proxies: (C, D) unit-norm mean image embeddings p of the ID classes.
        tower: the text tower.
        settings: the optimisation.
    """
    count = len(targets)
    if not count:
        return targets
    device = tower.device
    starts = replace(starts, last=starts.last.to(device), embedding=starts.embedding.to(device))
    # mean_c cos(e, p_c) is linear in the proxies.
    away = proxies.mean(dim=0).to(device)

    def inverted(part: slice, goal: Tensor) -> Tensor:
        chosen = starts.nearest(goal, away, settings.repulsion)
        tokens = tower.tokens([starts.texts[index] for index in chosen.tolist()])
        place = torch.arange(tokens.ids.shape[1], device=device) == starts.last[chosen].unsqueeze(-1)

        def text(words: Tensor) -> Tensor:
            return tower.encode_tokens(
                torch.where(place.unsqueeze(-1), words.unsqueeze(1), tokens.embeddings), tokens.ids
            )

        def loss(words: Tensor, _: int) -> Tensor:
            found = text(words)
            near, repelled = 1 - (found * goal).sum(dim=-1), 1 + found @ away
            return (near + settings.repulsion * repelled).sum() / count

        begun = tokens.embeddings[place]
        words = descend(begun, loss, settings.steps, settings.learning_rate, settings.weight_decay)
        with torch.no_grad():
            return text(words)

    return in_chunks(targets, device, settings.chunk, inverted)


def _without_padding(ids: Int[Tensor, " length"]) -> Int[Tensor, " shorter"]:
    """Return ids with the run of equal ones at the end reduced to its first."""
    different = (ids != ids[-1]).nonzero()
    return ids[: int(different[-1]) + 2] if len(different) else ids[:1]
