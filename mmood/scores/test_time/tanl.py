"""TANL: the words that confident OoD images activate, and confident ID images do not, are the negative labels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Literal, Self, final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mmood.errors import MmoodError
from mmood.scores.base import Embedded, Part, Reference
from mmood.scores.negatives import NegativePrototypes
from mmood.scores.test_time import functional_tanl as functional
from mmood.scores.test_time.base import AbstractStreamScore, Update
from mmood.scores.test_time.noise import noise_images
from mmood.scores.test_time.state import checked_state, fitted, received
from mmood.words.miner import ADANEG, NegativeMiner

ROWS = 1024


@dataclass(frozen=True)
class Activation:
    """How words are activated and chosen.

    Attributes:
        words: how many of the most OoD-like words stand in the score; all, where the list has fewer.
        length: images that each of the two queues holds, the newest.
        alpha: weight of the queues; 1 - alpha is that of the confident images of the batch.
        with_batch: the queues take the batch in before they are averaged; off, they are what came before it. (The
            paper, as far as known to us, does not say.)
        over: an activation is a softmax over `all` texts or over the `words` alone (not said either).
        noise: images of each of five kinds of noise with which the OoD queue starts; 0 for an empty queue.
        noise_side: their side in pixels, before the transform (not said).
    """

    words: int = 1000
    length: int = 300
    alpha: float = 0.95
    with_batch: bool = False
    over: functional.Over = "all"
    noise: int = 3
    noise_side: int = 224

    def __post_init__(self) -> None:
        for name, least in (("words", 1), ("length", 1), ("noise", 0), ("noise_side", 1)):
            if getattr(self, name) < least:
                raise MmoodError(f"activation.{name} is {getattr(self, name)}; it must be at least {least}.")
        if not 0 <= self.alpha <= 1:
            raise MmoodError(f"activation.alpha is {self.alpha}; it must lie in [0, 1].")
        if self.over not in ("all", "words"):
            raise MmoodError(f"activation.over is '{self.over}'; it must be 'all' or 'words'.")


@dataclass(frozen=True)
class OtsuGate:
    """Which images are confident: S > t + gap (1 - t) for ID, S < t - gap t for OoD, t Otsu's threshold.

    Attributes:
        gap: g.
        history: the threshold splits the last so many scores, those of the batch among them.
        score: which S: against the words as they are `ranked` before the batch, or against `all` (not said).
    """

    gap: float = 0.2
    history: int = 20_000
    score: Literal["ranked", "all"] = "ranked"

    def __post_init__(self) -> None:
        if not 0 <= self.gap <= 1:
            raise MmoodError(f"gate.gap is {self.gap}; it must lie in [0, 1].")
        if self.history < 1:
            raise MmoodError(f"gate.history is {self.history}; it must be at least 1.")
        if self.score not in ("ranked", "all"):
            raise MmoodError(f"gate.score is '{self.score}'; it must be 'ranked' or 'all'.")


ACTIVATION = Activation()
"""TANL's choice of words."""

GATE = OtsuGate()
"""TANL's gate."""


@dataclass(frozen=True)
class _Queue:
    """The last images of one side: their activations (K, M) and places in the stream (K,), -1 for what it began with.

    Activations and not embeddings: a queue is averaged at every batch, and changes by a part.
    """

    activation: Float[Tensor, "kept words"]
    place: Int[Tensor, " kept"]

    @cached_property
    def mean(self) -> Float[Tensor, " words"] | None:
        """The mean activation; None for an empty queue."""
        return self.activation.mean(0) if len(self.place) else None

    def push(self, activation: Tensor, place: Tensor, length: int) -> _Queue:
        """Return the queue with new images behind, the oldest dropped."""
        if not len(place):
            return self
        stay = max(0, length - len(place))
        kept = len(self.place) - min(stay, len(self.place))
        return _Queue(
            torch.cat([self.activation[kept:], activation[-length:]]), torch.cat([self.place[kept:], place[-length:]])
        )


@final
class TANL(AbstractStreamScore):
    """TANL: NegLabel's score against words that the test stream activates (arXiv 2603.25250), as log-odds.

    Every image activates every word by its softmax probability. Two queues hold the activations of the last confident
    ID and OoD images; words are ranked by Act_OoD - Act_ID, each mixed of queue and batch. S is the mean over m of P /
    (P + N(m)), N(m) the mass of the first m words. The queues start with ID names and with noise. Defaults are the
    paper's where we know them; `Activation` and `OtsuGate` say where not.

    Args:
        temperature: T, divides the cosine.
        negatives: file with the list to use (see `load_negatives`); None to mine one.
        mining: how to mine.
        activation: how words are activated and chosen.
        gate: which images are confident.
        step: m goes in steps of this; 0 for all chosen words at once.
        update: learn from a batch before or after it is scored.
        reference_behaviour: as the released script: gate.gap 0.5 and activation.alpha 0 (the batch alone), whatever
            these say. Its float16 is not followed.
        seed: of the noise.
    """

    needs: frozenset[Part] = frozenset({"embedding"})

    def __init__(
        self,
        temperature: float = 0.01,
        negatives: str | None = None,
        mining: NegativeMiner = ADANEG,
        activation: Activation = ACTIVATION,
        gate: OtsuGate = GATE,
        step: int = 1,
        update: Update = "before",
        reference_behaviour: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(update)
        if not 0 < temperature < math.inf:
            raise MmoodError(f"TANL.temperature is {temperature}; it must be a finite number greater than 0.")
        if not 0 <= step <= activation.words:
            raise MmoodError(f"TANL.step is {step}; it must lie between 0 and activation.words, {activation.words}.")
        self.temperature = temperature
        self.prototypes = NegativePrototypes(negatives, mining, groups=1, seed=0)
        self.activation = replace(activation, alpha=0.0) if reference_behaviour else activation
        self.gate = replace(gate, gap=0.5) if reference_behaviour else gate
        self.words_per_step = step
        self.reference_behaviour = reference_behaviour
        self.seed = seed
        self.classes_ = 0
        self.texts_ = torch.empty(0)
        self.noise_ = torch.empty(0)
        self.queues_: dict[Literal["id", "ood"], _Queue] = {}
        self.difference_ = torch.empty(0)
        self.past_ = torch.empty(0)
        self.counts_ = [0, 0, 0]

    def fit(self, reference: Reference) -> Self:
        """Read or mine the words at the first call; encode them, the ID names and the noise; forget the stream.

        Raises:
            MmoodError: the list has fewer words than `step`.
        """
        positive, negative = self.prototypes.encode(reference)
        if len(negative) < self.words_per_step:
            raise MmoodError(f"TANL.step is {self.words_per_step}, but the list has only {len(negative)} words.")
        self.classes_ = len(positive)
        images = noise_images(self.activation.noise, self.activation.noise_side, self.seed)
        with torch.inference_mode(False):
            self.texts_ = torch.cat([positive, negative])
            self.noise_ = reference.encode_images(images).to(positive) if images else positive[:0]
        self.reset()
        return self

    def reset(self, seed: int = 0) -> None:
        """Forget the stream: the queues hold noise and, drawn anew, as many ID names as there is room for."""
        texts = self._fitted()
        drawn = torch.randperm(self.classes_, generator=torch.Generator().manual_seed(seed))
        names = texts[: self.classes_][drawn[: self.activation.length].to(texts.device)]
        self.queues_ = {"id": self._start(names), "ood": self._start(self.noise_[: self.activation.length])}
        none = texts.new_empty(0, texts.shape[0] - self.classes_)
        self.difference_ = self._difference(none, none)
        self.past_ = texts.new_empty(0)
        self.counts_ = [0, 0, 0]

    @torch.no_grad()
    def forward(self, embedded: Embedded) -> Float[Tensor, " batch"]:
        """Return the score with the ranking as it is."""
        embedding = self._embedding(embedded)
        parts = [embedding.new_empty(0)]
        for first in range(0, len(embedding), ROWS):
            parts.append(self._score(self._logits(embedding[first : first + ROWS])))
        return torch.cat(parts)

    @torch.no_grad()
    def step(self, embedded: Embedded) -> Float[Tensor, " batch"]:
        """Return the scores of the next batch and learn from it."""
        logits = self._logits(self._embedding(embedded))
        before = self._score(logits)
        self._learn(logits, before)
        return before if self.update == "after" else self._score(logits)

    def state(self) -> dict[str, Tensor]:
        """Return both queues with places, the difference of activations, past scores and counts."""
        queues = {
            f"{side}_{name}": tensor.clone()
            for side, queue in self.queues_.items()
            for name, tensor in (("activation", queue.activation), ("place", queue.place))
        }
        rest = {"difference": self.difference_.clone(), "past": self.past_.clone()}
        return {**queues, **rest, "counts": torch.tensor(self.counts_)}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take back what `state` returned; MmoodError if it is none of this score."""
        self._fitted()
        taken = checked_state("TANL", self.state(), state)
        if len(taken["difference"]) != len(self.difference_):
            raise MmoodError(
                f"The state knows {len(taken['difference'])} words, but the list of this TANL has "
                f"{len(self.difference_)}."
            )
        self.queues_ = {
            "id": _Queue(taken["id_activation"], taken["id_place"]),
            "ood": _Queue(taken["ood_activation"], taken["ood_place"]),
        }
        self.difference_, self.past_ = taken["difference"], taken["past"]
        self.counts_ = taken["counts"].tolist()

    def counts(self) -> dict[str, int]:
        """Return how many images were seen and passed each gate, and how many the queues hold."""
        self._fitted()
        seen, gated_id, gated_ood = self.counts_
        queued = {f"queue_{side}": len(places) for side, places in self.members().items()}
        return {"seen": seen, "gated_id": gated_id, "gated_ood": gated_ood, **queued}

    def members(self) -> dict[Literal["id", "ood"], Int[Tensor, " kept"]]:
        """Return the places of the images in the queues, without what these started with."""
        return {side: queue.place[queue.place >= 0] for side, queue in self.queues_.items()}

    def learned(self) -> dict[str, object]:
        """Return the list, which was mined with the weights of the first `fit`."""
        return self.prototypes.learned()

    def restore(self, learned: Mapping[str, object]) -> None:
        """Take the list back."""
        self.prototypes.restore(learned)

    def settings(self) -> dict[str, object]:
        """Return what it takes to compute the same number; the list's entries only after `fit`."""
        inapplicable = ("groups", "seed", "negatives_used")
        words = {name: value for name, value in self.prototypes.settings().items() if name not in inapplicable}
        return {
            "temperature": self.temperature,
            **words,
            "activation": asdict(self.activation),
            "gate": asdict(self.gate),
            "step": self.words_per_step,
            "update": self.update,
            "reference_behaviour": self.reference_behaviour,
            "seed": self.seed,
        }

    def leading(self) -> Int[Tensor, " words"]:
        """Return the words of the score, as their places in the list, most OoD-like first."""
        return functional.ranking(self.difference_, self.activation.words)

    def _logits(self, embedding: Tensor) -> Float[Tensor, "batch texts"]:
        return (embedding / self.temperature) @ self.texts_.T

    def _score(self, logits: Tensor) -> Float[Tensor, " batch"]:
        ranked = logits[:, self.classes_ + self.leading()]
        return functional.tanl_log_odds(logits[:, : self.classes_], ranked, self.words_per_step)

    def _activations(self, logits: Tensor) -> Float[Tensor, "batch words"]:
        return functional.activations(logits, self.classes_, self.activation.over)

    def _start(self, embedding: Tensor) -> _Queue:
        place = torch.full((len(embedding),), -1, dtype=torch.int64, device=embedding.device)
        return _Queue(self._activations(self._logits(embedding)), place)

    def _gates(self, logits: Tensor, log_odds: Tensor) -> tuple[Bool[Tensor, " batch"], Bool[Tensor, " batch"]]:
        """Remember the batch's S and return which images are confident ID and which confident OoD."""
        if self.gate.score == "all":
            names, words = logits[:, : self.classes_], logits[:, self.classes_ :]
            log_odds = functional.tanl_log_odds(names, words, step=0)
        share = log_odds.sigmoid()
        self.past_ = torch.cat([self.past_, share])[-self.gate.history :].clone()
        threshold, gap = functional.otsu(self.past_), self.gate.gap
        return share > threshold + gap * (1 - threshold), share < threshold - gap * threshold

    def _learn(self, logits: Tensor, log_odds: Tensor) -> None:
        """Rank the words anew by the queues and the confident images, and let these into the queues."""
        is_id, is_ood = self._gates(logits, log_odds)
        gated = {"id": is_id, "ood": is_ood}
        new = {side: self._activations(logits[gate]) for side, gate in gated.items()}
        length = self.activation.length
        pushed = {
            side: queue.push(new[side], self.counts_[0] + gated[side].nonzero().squeeze(-1), length)
            for side, queue in self.queues_.items()
        }
        if self.activation.with_batch:
            self.queues_ = pushed
        self.difference_ = self._difference(new["id"], new["ood"])
        self.queues_ = pushed
        more = (len(logits), len(new["id"]), len(new["ood"]))
        self.counts_ = [count + added for count, added in zip(self.counts_, more, strict=True)]

    def _difference(self, new_id: Tensor, new_ood: Tensor) -> Float[Tensor, " words"]:
        alpha = self.activation.alpha
        mixed = {
            side: functional.mixed_activation(queue.mean, new, alpha)
            for (side, queue), new in zip(self.queues_.items(), (new_id, new_ood), strict=True)
        }
        return mixed["ood"] - mixed["id"]

    def _embedding(self, embedded: Embedded) -> Float[Tensor, "batch dim"]:
        return received(self, embedded, self._fitted(), self._move)

    def _move(self, device: torch.device) -> None:
        self.texts_, self.noise_ = self.texts_.to(device), self.noise_.to(device)

    def _fitted(self) -> Float[Tensor, "texts dim"]:
        return fitted(self, self.texts_)
