"""CoEvo: confident test images bring new negative words and move the texts that they resemble."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import final

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from mmood.errors import MmoodError
from mmood.scores.base import Embedded, Output, Reference
from mmood.scores.negatives import NegativePrototypes
from mmood.scores.surroundings import Surroundings
from mmood.scores.test_time import functional_adaneg, functional_coevo
from mmood.scores.test_time.adaptive_prototypes import AdaptivePrototypes
from mmood.scores.test_time.base import AbstractStreamScore, Kept, Update, gate_counts
from mmood.scores.test_time.image_memory import check_images, no_images
from mmood.scores.test_time.image_proxies import Proxies
from mmood.scores.test_time.memory import Derived, check_counts, check_range, check_size
from mmood.scores.test_time.softmax_masses import SoftmaxMasses
from mmood.scores.test_time.thresholds import least_variance_threshold
from mmood.scores.test_time.word_pool import other_words
from mmood.settings import check_count, check_number
from mmood.settings.requirements import Requirement
from mmood.words.miner import ADANEG as ADANEG_MINING
from mmood.words.miner import NegativeMiner

LogProbabilities = tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]


@dataclass(frozen=True)
class LeastVarianceGates:
    """Which images are confident: S > d + gap (1 - d) for ID, S < d - gap d for OoD, d the threshold of past scores.

    The paper names the threshold and a margin; all values here are ours, those of TANL's and AdaNeg's code.

    Attributes:
        gap: the margin around the threshold.
        history: how many of the last scores d is of, those of the present batch included.
        steps: spaces of the grid of thresholds in [0, 1].
    """

    gap: float = 0.5
    history: int = 20_000
    steps: int = 100

    def __post_init__(self) -> None:
        check_number("gates.gap", self.gap, least=0, most=1)
        check_count("gates.history", self.history)
        check_count("gates.steps", self.steps)


@dataclass(frozen=True)
class Evolution:
    """How confident images change what stands against the ID names; the numbers are ours, the paper's are not known.

    Attributes:
        near: words that a confident OoD image brings, those nearest to it.
        far: words that a confident ID image brings, those farthest from it.
        length: images that a text can take besides itself; 10 is AdaNeg's.
    """

    near: int = 5
    far: int = 5
    length: int = 10

    def __post_init__(self) -> None:
        check_count("evolution.near", self.near, least=0)
        check_count("evolution.far", self.far, least=0)
        check_count("evolution.length", self.length)


GATES = LeastVarianceGates()
EVOLUTION = Evolution()


@dataclass(frozen=True)
class Fitted:
    """What CoEvo learns of the ID side.

    Attributes:
        texts: (T, D) unit-norm embeddings of the ID names, of the initial negatives, and of the rest of the corpus.
        classes: number of ID names.
        initial: number of initial negatives.
    """

    texts: Float32[Tensor, "texts dim"]
    classes: int
    initial: int


@dataclass(frozen=True)
class Memory:
    """What CoEvo remembers of a stream.

    Attributes:
        prototypes: the texts and the confident images under each.
        words: the negatives, as places among the texts; the initial ones first.
        history: the last scores S_pre.
        counts: images seen, passed by the ID gate, passed by the OoD gate; words brought.
        grouped: the ID names and, group by group, the negatives, as places among the texts.
        against: their embeddings; kept, as every batch is compared with them twice.
    """

    prototypes: AdaptivePrototypes
    words: Int64[Tensor, " words"]
    history: Float32[Tensor, " past"]
    counts: Int64[Tensor, " 4"]
    grouped: Derived[Int64[Tensor, " grouped"]]
    against: Derived[Float32[Tensor, "grouped dim"]]


@final
class CoEvo(AbstractStreamScore[Fitted, Memory]):
    """CoEvo: negative words and image proxies that evolve together on the test stream (arXiv 2601.08476).

    S_T is NegLabel's S against the texts, S_V the same against proxies, the unit-norm means of each text and the images
    under it. For a batch: (1) w S_T + (1 - w) S_V decides which images are confident; (2) confident OoD images bring
    the words nearest to them, confident ID images the words farthest from them; (3) confident images are put under
    their nearest ID name or negative, of which each keeps those of the lowest entropy; (4) the score is the log-odds
    of (1 - w) S_T + w S_V with what has evolved.

    No code was released, and of the paper these are known: the four steps, w, the criterion of the threshold, entropy
    as what decides who stays. Ours, each after TANL's or AdaNeg's code: form of S_T and S_V, groups, temperature, the
    initial number of negatives and their prompts, all of `gates` and `evolution`; classes by text cosines; a negative
    without images stands for itself; a text always counts beside its images; a whole batch is gated, then learned,
    then scored. So no number of the paper is promised.

    `fit` encodes the whole corpus each time, also where the list is at hand: any of its words may become a negative.

    Warning:
        Most of its settings are ours, so a difference from the paper's numbers says nothing of the paper. Those numbers
        are probably FPR95 with OoD as the positive class.

    Args:
        groups: G; negative labels are regrouped when words are added, by a permutation that their number determines.
        temperature: T, divides the cosine.
        negatives: file with the initial negatives (see `load_negatives`); None to mine them.
        mining: how to mine them, and the corpus that words are brought from.
        weight: w in [0, 1], lambda in the paper.
        gates: which images are confident.
        evolution: what confident images change.
        update: learn from a batch before or after it is scored.
        seed: of the private generator that puts negatives into groups; None for that of the run.
    """

    needs: frozenset[Output] = frozenset({"embedding"})

    def __init__(
        self,
        groups: int = 5,
        temperature: float = 0.01,
        negatives: str | None = None,
        mining: NegativeMiner = ADANEG_MINING,
        weight: float = 0.8,
        gates: LeastVarianceGates = GATES,
        evolution: Evolution = EVOLUTION,
        update: Update = "before",
        seed: int | None = None,
    ) -> None:
        prototypes = NegativePrototypes(negatives, mining, groups, seed)
        super().__init__(update, prototypes)
        _check(temperature, weight)
        self.temperature = temperature
        self.prototypes = prototypes
        self.weight = weight
        self.gates = gates
        self.evolution = evolution

    def requirements(self, around: Surroundings) -> Iterable[Requirement]:
        """Return the text encoder, and the list or the words that it is mined from."""
        return (around.text_encoder(), self.prototypes.requirement())

    def learn(self, reference: Reference) -> Fitted:
        """Read or mine the negatives at the first call; encode ID names and corpus."""
        positive, negative = self.prototypes.encode(reference)
        assert self.prototypes.list_ is not None
        others = other_words(self.prototypes.mining, self.prototypes.list_, reference)
        return Fitted(torch.cat([positive, negative, others.to(negative)]), len(positive), len(negative))

    def start(self, fitted: Fitted, seed: int) -> Memory:
        """Return a memory of the initial negatives; nothing here is drawn, so the seed changes nothing."""
        texts = fitted.texts
        words = torch.arange(fitted.classes, fitted.classes + fitted.initial, device=texts.device)
        counts = torch.zeros(4, dtype=torch.int64, device=texts.device)
        return self._memory_of(fitted, self._prototypes(fitted, no_images(texts)), words, texts.new_empty(0), counts)

    def resume(self, fitted: Fitted, saved: dict[str, Tensor]) -> Memory:
        """Return the memory of saved tensors; MmoodError if their values cannot be those of this score."""
        words, history, counts = (saved.pop(name) for name in ("words", "history", "counts"))
        seen, *_ = check_counts("CoEvo", counts[:3])
        check_images("CoEvo", saved, seen)
        check_range("CoEvo", "history", history, 0, 1)
        check_size("CoEvo", "past scores", len(history), min(self.gates.history, seen))
        check_size("CoEvo", "words", len(words), fitted.initial + int(counts[3]))
        first, end = fitted.classes, len(fitted.texts)
        if not len(words) or not first <= int(words.min()) <= int(words.max()) < end:
            raise MmoodError("The state's 'words' are not in this CoEvo's corpus; restore it with the same settings.")
        if len(set(words.tolist())) < len(words):
            raise MmoodError("The state of CoEvo is inconsistent: it holds a word twice.")
        return self._memory_of(fitted, self._prototypes(fitted, saved), words, history, counts)

    def score(self, fitted: Fitted, memory: Memory, embedding: Float[Tensor, "batch dim"]) -> Float[Tensor, " batch"]:
        """Return the log-odds of (1 - w) S_T + w S_V."""
        return self._mixed(self._log_probabilities(fitted, memory, embedding), 1 - self.weight)

    def advance(self, fitted: Fitted, memory: Memory, batch: Embedded) -> tuple[Float[Tensor, " batch"], Memory]:
        """Judge the batch, learn from it, and score it with what has evolved, or with what was there before."""
        embedding = batch.joint()
        before = self._log_probabilities(fitted, memory, embedding)
        learned = self._learned(fitted, memory, embedding, self._mixed(before, self.weight))
        now = self._log_probabilities(fitted, learned, embedding) if self.update == "before" else before
        return self._mixed(now, 1 - self.weight), learned

    def count(self, fitted: Fitted, memory: Memory) -> dict[str, int]:
        """Return how many images were seen, passed each gate and are kept, and how many words were brought."""
        added = int(memory.counts[3])
        return {**gate_counts(memory.counts, self.kept(fitted, memory), "kept"), "words_added": added}

    def kept(self, fitted: Fitted, memory: Memory) -> Kept:
        """Return the positions of the images kept under ID names and under negatives."""
        return memory.prototypes.members(fitted.classes)

    def details(self) -> dict[str, object]:
        """Return, after `fit`, what the list is and how many words the corpus has."""
        words = self.prototypes.details()
        if self.fitted_ is not None:
            words["corpus_words"] = len(self.fitted_.texts) - self.fitted_.classes
        return words

    def _prototypes(self, fitted: Fitted, images: Mapping[str, Tensor]) -> AdaptivePrototypes:
        return AdaptivePrototypes.of(images, fitted.texts, Proxies("task"), self.evolution.length)

    def _memory_of(
        self, fitted: Fitted, prototypes: AdaptivePrototypes, words: Tensor, history: Tensor, counts: Tensor
    ) -> Memory:
        """Return the memory with these negatives, put into their groups."""
        names = torch.arange(fitted.classes, device=words.device)
        grouped = torch.cat([names, self.prototypes.in_groups(words)])
        return Memory(prototypes, words, history, counts, grouped, fitted.texts[grouped])

    def _log_probabilities(
        self, fitted: Fitted, memory: Memory, embedding: Tensor
    ) -> tuple[LogProbabilities, LogProbabilities]:
        """Return log S and log(1 - S) of S_T and of S_V."""
        logits = (embedding / self.temperature) @ memory.against.T
        masses = SoftmaxMasses.of(logits, fitted.classes, self.prototypes.groups)
        slots = memory.prototypes.memory.slots.tensor()
        has_images = (slots[memory.grouped, 0] >= 0).nonzero().squeeze(-1)
        adapted = memory.prototypes.logits(memory.grouped[has_images], embedding, self.temperature)
        sums = masses.log_sums(), masses.log_sums_with(has_images, adapted)
        return functional_adaneg.log_probabilities(sums[0]), functional_adaneg.log_probabilities(sums[1])

    def _mixed(self, both: tuple[LogProbabilities, LogProbabilities], weight: float) -> Float[Tensor, " batch"]:
        return functional_coevo.mixed_log_odds(*both, weight=weight)

    def _learned(self, fitted: Fitted, memory: Memory, embedding: Tensor, log_odds: Float[Tensor, " batch"]) -> Memory:
        """Judge a batch by its scores, then bring words and put images under texts."""
        history = torch.cat([memory.history, log_odds.sigmoid()])[-self.gates.history :]
        centre = least_variance_threshold(history, self.gates.steps)
        is_id, is_ood = functional_adaneg.gates(log_odds, centre, self.gates.gap, self.gates.gap)
        added = self._words_to_add(fitted, memory.words, embedding[is_id], embedding[is_ood])
        words = torch.cat([memory.words, added]) if len(added) else memory.words
        more = torch.tensor([len(embedding), int(is_id.sum()), int(is_ood.sum()), len(added)])
        counts = memory.counts + more.to(memory.counts)
        prototypes = self._with_images(fitted, memory, words, embedding, is_id, is_ood)
        if len(added):
            return self._memory_of(fitted, prototypes, words, history, counts)
        return replace(memory, prototypes=prototypes, history=history, counts=counts)

    def _words_to_add(self, fitted: Fitted, words: Tensor, id_: Tensor, ood: Tensor) -> Int64[Tensor, " added"]:
        pool, evolution = fitted.texts[fitted.classes :], self.evolution
        known = words - fitted.classes
        added = functional_coevo.words_to_add(ood @ pool.T, id_ @ pool.T, known, evolution.near, evolution.far)
        return added + fitted.classes

    def _with_images(
        self, fitted: Fitted, memory: Memory, words: Tensor, embedding: Tensor, is_id: Tensor, is_ood: Tensor
    ) -> AdaptivePrototypes:
        name_logits = (embedding[is_id] / self.temperature) @ fitted.texts[: fitted.classes].T
        word_logits = (embedding[is_ood] / self.temperature) @ fitted.texts[words].T
        logits = name_logits, word_logits
        return memory.prototypes.keep_confident(embedding, (is_id, is_ood), logits, words, memory.counts[0])


def _check(temperature: float, weight: float) -> None:
    check_number("CoEvo.temperature", temperature, above=0)
    check_number("CoEvo.weight", weight, least=0, most=1)
