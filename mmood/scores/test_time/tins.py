"""TINS: negative labels that begin as words and are inverted from test images which look out-of-distribution."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import final

import torch
from jaxtyping import Float, Float32, Int64, UInt8
from torch import Tensor

from mmood.errors import MmoodError
from mmood.scores.base import Embedded, Output, Reference
from mmood.scores.negatives import NegativePrototypes
from mmood.scores.surroundings import Surroundings
from mmood.scores.test_time.base import AbstractStreamScore, Kept, Update
from mmood.scores.test_time.class_images import CLASS_IMAGES, ClassImages, class_proxies
from mmood.scores.test_time.functional_tins import tins_log_odds
from mmood.scores.test_time.inverted_words import InvertedWords, admitted, gate, no_words
from mmood.scores.test_time.memory import Derived, check_counts, check_size, generator_of
from mmood.scores.test_time.word_inversion import (
    WORD_INVERSION,
    Starts,
    WordInversion,
    invert_from_words,
    read_starts,
)
from mmood.scores.text_tower import TextTower
from mmood.settings import check_count, check_number
from mmood.settings.requirements import Requirement
from mmood.words.miner import INTERNEG as INTERNEG_MINING
from mmood.words.miner import NegativeMiner


@dataclass(frozen=True)
class Fitted:
    """What TINS learns of the ID side.

    Attributes:
        positive: (C, D) unit-norm embeddings of the ID names.
        proxies: (C, D) mean image embeddings of the classes.
        negative: (M, D) of the negatives, in the order of the list.
        starts: prompts of the negatives, at which inversions begin; with the text tower, they stay on its device.
        tower: the text tower.
    """

    positive: Float32[Tensor, "classes dim"]
    proxies: Float32[Tensor, "classes dim"]
    negative: Float32[Tensor, "negatives dim"]
    starts: Starts
    tower: TextTower


@dataclass(frozen=True)
class Memory:
    """What TINS remembers of a stream.

    Attributes:
        words: kept inversions: the first K are the bank, the others the buffer.
        counts: images seen, gated as OoD, accepted by the filter; inversions that were dropped.
        generator: state of the private generator that draws a new bank.
        grouped: negatives and bank, group by group.
    """

    words: InvertedWords
    counts: Int64[Tensor, " 4"]
    generator: UInt8[Tensor, " generator"]
    grouped: Derived[Float32[Tensor, "grouped dim"]]


@final
class TINS(AbstractStreamScore[Fitted, Memory]):
    """TINS: a mean-normalised NegLabel score with words inverted from test images (arXiv 2605.10756), as log-odds.

    It needs some labelled images of each class: p_c is the normalised mean of their embeddings, b_c = cos(t_c, p_c).
    The negatives are InterNeg's: words w with cos(w, p_c) < b_c for every c, those with the largest
    mean_c (b_c - cos(w, p_c)) first. S is that of `functional_tins.tins`. For a batch: images with S < beta are
    inverted (`word_inversion.invert_from_words`), the inversions that pass the same filter enter the bank, which holds
    the K with the largest deviation, and the whole batch is scored again against negatives and bank. Inversions that
    leave the bank go to a buffer; when it is full, K are drawn from the bank and the better half of the buffer as the
    new bank.

    Settings are those of the released code. Its float16 is not followed, nor its global generator, which it seeds
    again in every score: a private one draws the banks.

    Warning:
        It is not zero-shot: it needs labelled images of each class, and a stream. Its paper's table compares
        its own FPR95 (ID positive) with rows of other papers in the other convention.

    Args:
        groups: G. M + K negative labels are regrouped when the bank changes.
        temperature: T, divides the cosine.
        negatives: file with the list to use (see `load_negatives`); None to mine one.
        mining: how to mine; the paper keeps 2,000 words for ImageNet and up to 70,000 for CIFAR.
        images: which labelled ID images stand for the classes.
        beta: images with a smaller probability are inverted.
        bank_size: K.
        buffer_size: inversions that fell out of the bank until it is drawn again; 0 to drop them.
        inversion: how an image becomes a word; the paper's `repulsion` is 0.3 for ImageNet and 0.5 for CIFAR.
        update: learn from a batch before or after it is scored.
        seed: of the private generator that puts negatives into groups; None for that of the run.
    """

    needs: frozenset[Output] = frozenset({"embedding"})

    def __init__(
        self,
        groups: int = 5,
        temperature: float = 0.01,
        negatives: str | None = None,
        mining: NegativeMiner = INTERNEG_MINING,
        images: ClassImages = CLASS_IMAGES,
        beta: float = 0.3,
        bank_size: int = 2000,
        buffer_size: int = 2000,
        inversion: WordInversion = WORD_INVERSION,
        update: Update = "before",
        seed: int | None = None,
    ) -> None:
        prototypes = NegativePrototypes(negatives, mining, groups, seed)
        super().__init__(update, prototypes)
        check_number("TINS.temperature", temperature, above=0)
        check_number("TINS.beta", beta, least=0, most=1)
        check_count("TINS.bank_size", bank_size)
        check_count("TINS.buffer_size", buffer_size, least=0)
        self.temperature = temperature
        self.prototypes = prototypes
        self.images = images
        self.beta = beta
        self.bank_size = bank_size
        self.buffer_size = buffer_size
        self.inversion = inversion

    def requirements(self, around: Surroundings) -> Iterable[Requirement]:
        """Return the text encoder, ID training images, and the list or the words that it is mined from."""
        return (around.text_encoder(), around.training_images(), self.prototypes.requirement())

    def learn(self, reference: Reference) -> Fitted:
        """Read the class images, mine the negatives at the first call, encode.

        Raises:
            MmoodError: no ID training set, a class without images, an encoder without a text tower of open_clip's.
        """
        proxies = class_proxies(reference, self.images)
        positive, negative = self.prototypes.encode(reference, proxies)
        assert self.prototypes.list_ is not None  # `encode` got one
        starts = read_starts(reference, self.prototypes.list_.words, self.inversion.template)
        return Fitted(positive, proxies.to(positive), negative, starts, reference.text_tower)

    def start(self, fitted: Fitted, seed: int) -> Memory:
        """Return an empty bank; `seed` is that of the draws of a bank."""
        counts = torch.zeros(4, dtype=torch.int64, device=fitted.positive.device)
        generator = torch.Generator().manual_seed(seed).get_state().to(counts.device)
        return self._memory_of(fitted, no_words(fitted.positive), counts, generator)

    def resume(self, fitted: Fitted, saved: dict[str, Tensor]) -> Memory:
        """Return the memory of saved tensors; MmoodError if their values cannot be those of this score."""
        seen, gated, accepted, dropped = check_counts("TINS", saved["counts"])
        full = min(self.bank_size, accepted)
        if accepted > gated or dropped > accepted - full:
            raise MmoodError(
                f"The state of TINS is inconsistent: {accepted} of {gated} inversions were accepted, and {dropped} of "
                "these were dropped."
            )
        words = InvertedWords(saved["bank"], saved["deviation"], saved["place"])
        check_size("TINS", "inversions", len(words), accepted - dropped)
        if len(words) - full > max(0, self.buffer_size - 1):
            raise MmoodError(
                f"The state of TINS is inconsistent: {len(words) - full} inversions are in the buffer, which is drawn "
                f"from once it holds {self.buffer_size}."
            )
        words.check("TINS", seen)
        generator_of(saved["generator"])
        return self._memory_of(fitted, words, saved["counts"], saved["generator"])

    def score(self, fitted: Fitted, memory: Memory, embedding: Float[Tensor, "batch dim"]) -> Float[Tensor, " batch"]:
        """Return log S - log(1 - S) against the negatives and the bank as it is."""
        return tins_log_odds(embedding, fitted.positive, memory.grouped, self.temperature, self.prototypes.groups)

    def advance(self, fitted: Fitted, memory: Memory, batch: Embedded) -> tuple[Float[Tensor, " batch"], Memory]:
        """Score the batch, learn from what looks OoD, and score the whole batch again."""
        embedding = batch.joint()
        before = self.score(fitted, memory, embedding)
        learned = self._learned(fitted, memory, embedding, before)
        if self.update == "after":
            return before, learned
        return self.score(fitted, learned, embedding), learned

    def count(self, fitted: Fitted, memory: Memory) -> dict[str, int]:
        """Return how many images were seen, gated as OoD and accepted, and how many bank and buffer hold."""
        seen, gated, accepted, _ = memory.counts.tolist()
        held = {"bank": min(self.bank_size, len(memory.words)), "buffer": max(0, len(memory.words) - self.bank_size)}
        return {"seen": seen, "gated_ood": gated, "accepted": accepted, **held}

    def kept(self, fitted: Fitted, memory: Memory) -> Kept:
        """Return the positions of the images whose inversions are in the bank; none is taken for ID."""
        return {"id": memory.words.place[:0], "ood": memory.words.place[: self.bank_size].clone()}

    def details(self) -> dict[str, object]:
        """Return, after `fit`, what the list is, and at how many of its words an inversion can begin."""
        found = self.prototypes.details()
        return found if self.fitted_ is None else {**found, "inversion_starts": len(self.fitted_.starts.texts)}

    def _learned(self, fitted: Fitted, memory: Memory, embedding: Tensor, scores: Tensor) -> Memory:
        """Return the memory with the inversions of the images that look OoD."""
        gated = gate(scores, self.beta, strict=True)
        new, _ = admitted(
            embedding,
            gated,
            memory.counts[0],
            lambda images: invert_from_words(images, fitted.starts, fitted.proxies, fitted.tower, self.inversion),
            fitted.proxies,
            fitted.positive,
        )
        words, generator = self._bounded(memory.words.joined(new), memory.generator)
        dropped = len(memory.words) + len(new) - len(words)
        more = torch.tensor([len(gated), int(gated.sum()), len(new), dropped]).to(memory.counts)
        if not len(new):
            return replace(memory, counts=memory.counts + more)
        return self._memory_of(fitted, words, memory.counts + more, generator)

    def _bounded(self, words: InvertedWords, generator: Tensor) -> tuple[InvertedWords, Tensor]:
        """Return bank and buffer, and the state of the generator: with a full buffer, a bank that is drawn anew."""
        over = len(words) - self.bank_size
        if over <= 0 or over < self.buffer_size:
            return words, generator
        if not self.buffer_size:
            return words[: self.bank_size], generator
        drawing = generator_of(generator)
        drawn = torch.randperm(self.bank_size + over // 2, generator=drawing)[: self.bank_size]
        return words[drawn.sort().values.to(words.place.device)], drawing.get_state().to(generator.device)

    def _memory_of(self, fitted: Fitted, words: InvertedWords, counts: Tensor, generator: Tensor) -> Memory:
        """Return the memory with negatives and bank in their groups, by a permutation that their number fixes."""
        texts = torch.cat([fitted.negative, words.bank[: self.bank_size]])
        return Memory(words, counts, generator, self.prototypes.in_groups(texts))
