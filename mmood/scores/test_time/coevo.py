"""CoEvo: confident test images bring new negative words and move the texts that they resemble."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal, Self, final

import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor

from mmood.errors import MmoodError
from mmood.scores.base import Embedded, Part, Reference
from mmood.scores.functional_negatives import group_order
from mmood.scores.negatives import NegativePrototypes
from mmood.scores.test_time import functional_adaneg, functional_coevo
from mmood.scores.test_time.base import AbstractStreamScore, Update
from mmood.scores.test_time.image_proxies import Proxies
from mmood.scores.test_time.masses import Masses
from mmood.scores.test_time.moved_texts import MovedTexts
from mmood.scores.test_time.state import checked_state, fitted, received
from mmood.scores.test_time.word_pool import other_words
from mmood.words.miner import ADANEG as ADANEG_MINING
from mmood.words.miner import NegativeMiner

Shares = tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]


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
        if not 0 <= self.gap <= 1:
            raise MmoodError(f"gates.gap is {self.gap}; it must lie in [0, 1].")
        for name in ("history", "steps"):
            if getattr(self, name) < 1:
                raise MmoodError(f"gates.{name} is {getattr(self, name)}; it must be at least 1.")


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
        for name, least in (("near", 0), ("far", 0), ("length", 1)):
            if getattr(self, name) < least:
                raise MmoodError(f"evolution.{name} is {getattr(self, name)}; it must be at least {least}.")


GATES = LeastVarianceGates()
EVOLUTION = Evolution()


@final
class CoEvo(AbstractStreamScore):
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

    Args:
        groups: G; negatives are grouped anew, by a permutation that their number fixes, when words come in.
        temperature: T, divides the cosine.
        negatives: file with the initial negatives (see `load_negatives`); None to mine them.
        mining: how to mine them, and the corpus that words are brought from.
        weight: w in [0, 1], lambda in the paper.
        gates: which images are confident.
        evolution: what confident images change.
        update: learn from a batch before or after it is scored.
        seed: of the private generator that puts negatives into groups.
    """

    needs: frozenset[Part] = frozenset({"embedding"})

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
        seed: int = 0,
    ) -> None:
        super().__init__(update)
        _check(temperature, weight)
        self.temperature = temperature
        self.prototypes = NegativePrototypes(negatives, mining, groups, seed)
        self.weight = weight
        self.gates = gates
        self.evolution = evolution
        self.classes_, self.initial_ = 0, 0
        self.texts_ = torch.empty(0)
        self.words_ = torch.empty(0, dtype=torch.int64)
        self.grouped_ = torch.empty(0, dtype=torch.int64)
        self.against_ = torch.empty(0)
        self.history_ = torch.empty(0)
        self.counts_ = [0, 0, 0]
        self.moved_: MovedTexts | None = None

    def fit(self, reference: Reference) -> Self:
        """Read or mine the negatives at the first call; encode ID names and corpus; forget the stream."""
        positive, negative = self.prototypes.encode(reference)
        assert self.prototypes.list_ is not None
        others = other_words(self.prototypes.mining, self.prototypes.list_, reference)
        self.classes_, self.initial_ = len(positive), len(negative)
        with torch.inference_mode(False):
            self.texts_ = torch.cat([positive, negative, others.to(negative)])
        self.reset()
        return self

    def reset(self, seed: int = 0) -> None:
        """Forget the stream; nothing here is drawn, so the seed changes nothing."""
        texts = self._fitted()
        self.moved_ = MovedTexts(texts, Proxies("task"), self.evolution.length)
        self.history_, self.counts_ = texts.new_empty(0), [0, 0, 0]
        self._take(torch.arange(self.classes_, self.classes_ + self.initial_, device=texts.device))

    @torch.no_grad()
    def forward(self, embedded: Embedded) -> Float[Tensor, " batch"]:
        """Return the score with words and images as they are."""
        return self._mixed(self._shares(self._embedding(embedded)), 1 - self.weight)

    @torch.no_grad()
    def step(self, embedded: Embedded) -> Float[Tensor, " batch"]:
        """Return the scores of the next batch and learn from it."""
        embedding = self._embedding(embedded)
        shares = self._shares(embedding)
        self._learn(embedding, self._mixed(shares, self.weight))
        if self.update == "before":
            shares = self._shares(embedding)
        return self._mixed(shares, 1 - self.weight)

    def state(self) -> dict[str, Tensor]:
        """Return kept images with their texts, entropies and places, the negatives, past scores and counts."""
        words = {"words": self.words_.clone(), "history": self.history_.clone()}
        return {**self._moved().state(), **words, "counts": torch.tensor(self.counts_)}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take back what `state` returned; MmoodError if it is none of this score."""
        rows = ("image", "text", "entropy", "place")
        taken = checked_state("CoEvo", self.state(), state, exact=("counts",), together=rows)
        words = taken.pop("words")
        if len(words) < self.initial_ or not self.classes_ <= int(words.min()) <= int(words.max()) < len(self.texts_):
            raise MmoodError("The state's 'words' are none of this CoEvo's corpus; restore it with the same settings.")
        self.counts_ = taken.pop("counts").tolist()
        self.history_ = taken.pop("history")
        self._take(words)
        self._moved().load(taken)

    def counts(self) -> dict[str, int]:
        """Return how many images were seen, passed each gate and are kept, and how many words were brought."""
        seen, gated_id, gated_ood = self.counts_
        kept = {f"kept_{side}": len(places) for side, places in self.members().items()}
        added = len(self.words_) - self.initial_
        return {"seen": seen, "gated_id": gated_id, "gated_ood": gated_ood, **kept, "words_added": added}

    def members(self) -> dict[Literal["id", "ood"], Int[Tensor, " kept"]]:
        """Return the places of the images kept under ID names and under negatives."""
        return self._moved().places(self.classes_)

    def learned(self) -> dict[str, object]:
        """Return the initial list, which was mined with the weights of the first `fit`."""
        return self.prototypes.learned()

    def restore(self, learned: Mapping[str, object]) -> None:
        """Take the list back."""
        self.prototypes.restore(learned)

    def settings(self) -> dict[str, object]:
        """Return what it takes to compute the same number; the list's entries only after `fit`."""
        words = {name: value for name, value in self.prototypes.settings().items() if name != "negatives_used"}
        if len(self.texts_):
            words["corpus_words"] = len(self.texts_) - self.classes_
        return {
            "temperature": self.temperature,
            **words,
            "weight": self.weight,
            "gates": asdict(self.gates),
            "evolution": asdict(self.evolution),
            "update": self.update,
        }

    def _shares(self, embedding: Tensor) -> tuple[Shares, Shares]:
        """Return log S and log(1 - S) of S_T and of S_V."""
        logits = (embedding / self.temperature) @ self.against_.T
        masses = Masses.of(logits, self.classes_, self.prototypes.groups)
        has_images = (self._moved().memory.slots[self.grouped_, 0] >= 0).nonzero().squeeze(-1)
        moved = self._moved().logits(self.grouped_[has_images], embedding, self.temperature)
        sums = masses.log_sums(), masses.log_sums_with(has_images, moved)
        return functional_adaneg.log_shares(sums[0]), functional_adaneg.log_shares(sums[1])

    def _mixed(self, shares: tuple[Shares, Shares], weight: float) -> Float[Tensor, " batch"]:
        return functional_coevo.mixed_log_odds(*shares, weight=weight)

    def _learn(self, embedding: Tensor, log_odds: Float[Tensor, " batch"]) -> None:
        """Judge a batch by its scores, then bring words and put images under texts."""
        self.history_ = torch.cat([self.history_, log_odds.sigmoid()])[-self.gates.history :]
        centre = functional_coevo.least_variance_threshold(self.history_, self.gates.steps)
        is_id, is_ood = functional_adaneg.gates(log_odds, centre, self.gates.gap, self.gates.gap)
        self._bring_words(embedding[is_id], embedding[is_ood])
        self._keep_images(embedding, is_id, is_ood)
        more = (len(embedding), int(is_id.sum()), int(is_ood.sum()))
        self.counts_ = [count + added for count, added in zip(self.counts_, more, strict=True)]

    def _bring_words(self, id_: Tensor, ood: Tensor) -> None:
        pool = self.texts_[self.classes_ :]
        known, evolution = self.words_ - self.classes_, self.evolution
        added = functional_coevo.words_to_add(ood @ pool.T, id_ @ pool.T, known, evolution.near, evolution.far)
        if len(added):
            self._take(torch.cat([self.words_, added + self.classes_]))

    def _keep_images(self, embedding: Tensor, is_id: Tensor, is_ood: Tensor) -> None:
        names = (embedding[is_id] / self.temperature) @ self.texts_[: self.classes_].T
        words = (embedding[is_ood] / self.temperature) @ self.texts_[self.words_].T
        confident = torch.cat([is_id.nonzero(), is_ood.nonzero()]).squeeze(-1)
        self._moved().keep(
            embedding[confident],
            torch.cat([names.argmax(-1), self.words_[words.argmax(-1)]]),
            torch.cat([functional_adaneg.entropy(names), functional_adaneg.entropy(words)]),
            self.counts_[0] + confident,
        )

    def _take(self, words: Int64[Tensor, " words"]) -> None:
        """Make these the negatives: the ID names and, group by group, the words are what scores compare with."""
        self.words_ = words
        order = group_order(len(words), self.prototypes.groups, self.prototypes.seed).to(words.device)
        self.grouped_ = torch.cat([torch.arange(self.classes_, device=words.device), words[order]])
        # Kept, as every batch is compared with it twice.
        self.against_ = self.texts_[self.grouped_]

    def _embedding(self, embedded: Embedded) -> Float[Tensor, "batch dim"]:
        return received(self, embedded, self._fitted(), self._move)

    def _move(self, device: torch.device) -> None:
        self.texts_ = self.texts_.to(device)

    def _fitted(self) -> Float[Tensor, "texts dim"]:
        return fitted(self, self.texts_)

    def _moved(self) -> MovedTexts:
        self._fitted()
        assert self.moved_ is not None
        return self.moved_


def _check(temperature: float, weight: float) -> None:
    if not 0 < temperature < math.inf:
        raise MmoodError(f"CoEvo.temperature is {temperature}; it must be a finite number greater than 0.")
    if not 0 <= weight <= 1:
        raise MmoodError(f"CoEvo.weight is {weight}; it must lie in [0, 1].")
