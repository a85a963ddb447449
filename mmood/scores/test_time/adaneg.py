"""AdaNeg: confident test images move the ID names and the negative labels that they resemble."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Literal, Self, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mmood.errors import MmoodError
from mmood.scores.base import Embedded, Part, Reference
from mmood.scores.functional_negatives import group_order
from mmood.scores.negatives import NegativePrototypes
from mmood.scores.test_time import functional_adaneg as functional
from mmood.scores.test_time.base import AbstractStreamScore, Update
from mmood.scores.test_time.image_proxies import PROXIES, Proxies
from mmood.scores.test_time.masses import Masses
from mmood.scores.test_time.moved_texts import MovedTexts
from mmood.scores.test_time.state import checked_state, fitted, received
from mmood.words.miner import ADANEG as ADANEG_MINING
from mmood.words.miner import NegativeMiner

ROWS = 1024

Shares = tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]


@dataclass(frozen=True)
class Gates:
    """Which images are confident: S > centre + gap (1 - centre) for ID, S < centre - gap centre for OoD.

    Attributes:
        centre: of both gates, gamma in the paper.
        gap: g.
        adaptive: for streams with far more of one kind. With r the share of ID among the last confident images, the OoD
            gate has gap r while r > 0.5, the ID gate gap 1 - r while r < 0.5.
        history: how many confident images r counts; those of a batch count from the next batch on.
        start: how many of each kind stand in the history before the first image.
    """

    centre: float = 0.5
    gap: float = 0.5
    adaptive: bool = False
    history: int = 10_000
    start: int = 100

    def __post_init__(self) -> None:
        for name in ("centre", "gap"):
            if not 0 <= getattr(self, name) <= 1:
                raise MmoodError(f"gates.{name} is {getattr(self, name)}; it must lie in [0, 1].")
        if not 1 <= 2 * self.start <= self.history:
            raise MmoodError(
                f"gates.start is {self.start} and gates.history {self.history}; the history must hold two times start, "
                "and start be at least 1."
            )

    def gaps(self, history: Iterable[int]) -> tuple[float, float]:
        """Return the gaps of the ID gate and of the OoD gate, given past decisions (1 ID, 0 OoD)."""
        if not self.adaptive:
            return self.gap, self.gap
        past = list(history)
        share = sum(past) / len(past)
        return (1 - share if share < 0.5 else self.gap), (share if share > 0.5 else self.gap)


GATES = Gates()
"""AdaNeg's gates."""


@final
class AdaNeg(AbstractStreamScore):
    """AdaNeg: NegLabel's score plus the same score against proxies that test images have moved (arXiv 2410.20149).

    Confident images, by NegLabel's S, are kept under the ID name or the negative label that is nearest to them: L a
    text, those with the lowest entropy over the C names or the M negatives. A proxy is the mean of a text and its
    images, by default weighted for each image to be scored; S_ada is S with proxies in place of texts. The score is the
    log-odds of (S_ada + weight S) / (1 + weight). The defaults are the paper's.

    In a batch that is learned before it is scored, confident images meet themselves in the memory. The M negatives are
    those in groups: a rest of M mod G at the end of the list is left out everywhere. A batch of B images holds (B, C +
    M) cosines.

    Args:
        groups: G.
        temperature: T, divides the cosine.
        negatives: file with the list to use (see `load_negatives`); None to mine one.
        mining: how to mine.
        gates: which images are confident.
        proxies: how images move texts.
        weight: of S beside S_ada, lambda in the paper.
        update: learn from a batch before or after it is scored.
        reference_behaviour: as the released code: a text takes L - 1 images (an off-by-one), beta is cut to an integer,
            and with `gates.adaptive` the weight is 1. The code's float16 is not followed, see `proxies.replace`.
        seed: of the private generator that puts negatives into groups.
    """

    needs: frozenset[Part] = frozenset({"embedding"})

    def __init__(
        self,
        groups: int = 5,
        temperature: float = 0.01,
        negatives: str | None = None,
        mining: NegativeMiner = ADANEG_MINING,
        gates: Gates = GATES,
        proxies: Proxies = PROXIES,
        weight: float = 0.1,
        update: Update = "before",
        reference_behaviour: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(update)
        _check(temperature, weight)
        self.temperature = temperature
        self.prototypes = NegativePrototypes(negatives, mining, groups, seed)
        self.gates = gates
        self.proxies = replace(proxies, beta=float(int(proxies.beta))) if reference_behaviour else proxies
        self.weight = 1.0 if reference_behaviour and gates.adaptive else weight
        self.reference_behaviour = reference_behaviour
        self.classes_ = 0
        self.texts_ = torch.empty(0)
        self.moved_: MovedTexts | None = None
        self.counts_ = [0, 0, 0]
        self.history_: deque[int] = deque()

    def fit(self, reference: Reference) -> Self:
        """Read or mine the negatives at the first call; encode them and the ID names; forget the stream."""
        positive, negative = self.prototypes.encode(reference)
        order = group_order(len(negative), self.prototypes.groups, self.prototypes.seed)
        self.classes_ = len(positive)
        with torch.inference_mode(False):
            self.texts_ = torch.cat([positive, negative[order.to(negative.device)]])
        self.reset()
        return self

    def reset(self, seed: int = 0) -> None:
        """Forget the stream; nothing here is drawn, so the seed changes nothing."""
        texts, length = self._fitted(), self.proxies.length - int(self.reference_behaviour)
        self.moved_ = MovedTexts(texts, self.proxies, length)
        self.counts_ = [0, 0, 0]
        self.history_ = deque([1, 0] * self.gates.start, maxlen=self.gates.history)

    @torch.no_grad()
    def forward(self, embedded: Embedded) -> Float[Tensor, " batch"]:
        """Return the score with the memory as it is."""
        embedding = self._embedding(embedded)
        parts = [embedding.new_empty(0)]
        for first in range(0, len(embedding), ROWS):
            rows = embedding[first : first + ROWS]
            masses = self._masses(rows)
            parts.append(self._score(rows, masses, functional.log_shares(masses.log_sums())))
        return torch.cat(parts)

    @torch.no_grad()
    def step(self, embedded: Embedded) -> Float[Tensor, " batch"]:
        """Return the scores of the next batch and learn from it."""
        embedding = self._embedding(embedded)
        masses = self._masses(embedding)
        static = functional.log_shares(masses.log_sums())
        if self.update == "before":
            self._learn(embedding, masses.logits, static)
        scores = self._score(embedding, masses, static)
        if self.update == "after":
            self._learn(embedding, masses.logits, static)
        return scores

    def state(self) -> dict[str, Tensor]:
        """Return the kept images with their texts, entropies and places; counts; the gates' history."""
        counts, history = torch.tensor(self.counts_), torch.tensor(list(self.history_))
        return {**self._moved().state(), "counts": counts, "history": history}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take back what `state` returned; MmoodError if it is none of this score."""
        taken = checked_state("AdaNeg", self.state(), state)
        self.counts_ = taken.pop("counts").tolist()
        self.history_ = deque(taken.pop("history").tolist(), maxlen=self.gates.history)
        self._moved().load(taken)

    def counts(self) -> dict[str, int]:
        """Return how many images were seen, passed each gate and are kept, and how many texts have images."""
        seen, gated_id, gated_ood = self.counts_
        kept = {f"kept_{side}": len(places) for side, places in self.members().items()}
        filled = len(self._moved().memory.filled())
        return {"seen": seen, "gated_id": gated_id, "gated_ood": gated_ood, **kept, "texts_with_images": filled}

    def members(self) -> dict[Literal["id", "ood"], Int[Tensor, " kept"]]:
        """Return the places of the images kept under ID names and under negative labels."""
        return self._moved().places(self.classes_)

    def learned(self) -> dict[str, object]:
        """Return the list, which was mined with the weights of the first `fit`."""
        return self.prototypes.learned()

    def restore(self, learned: Mapping[str, object]) -> None:
        """Take the list back."""
        self.prototypes.restore(learned)

    def settings(self) -> dict[str, object]:
        """Return what it takes to compute the same number; the list's entries only after `fit`."""
        words = self.prototypes.settings()
        if len(self.texts_):
            words["negatives_used"] = len(self.texts_) - self.classes_
        return {
            "temperature": self.temperature,
            **words,
            "gates": asdict(self.gates),
            "proxies": asdict(self.proxies),
            "weight": self.weight,
            "update": self.update,
            "reference_behaviour": self.reference_behaviour,
        }

    def _masses(self, embedding: Float[Tensor, "batch dim"]) -> Masses:
        return Masses.of((embedding / self.temperature) @ self.texts_.T, self.classes_, self.prototypes.groups)

    def _score(self, embedding: Tensor, masses: Masses, static: Shares) -> Float[Tensor, " batch"]:
        moved, adaptive = self._moved(), static
        filled = moved.memory.filled()
        if len(filled):
            # A text without images is its own proxy, so only the others' logits change.
            logits = moved.logits(filled, embedding, self.temperature)
            adaptive = functional.log_shares(masses.log_sums_with(filled, logits))
        return functional.mixed_log_odds(adaptive, static, self.weight)

    def _learn(self, embedding: Tensor, logits: Tensor, static: Shares) -> None:
        """Put the confident images under their nearest text."""
        gaps = self.gates.gaps(self.history_)
        is_id, is_ood = functional.gates(static[0] - static[1], self.gates.centre, *gaps)
        names, words = logits[:, : self.classes_][is_id], logits[:, self.classes_ :][is_ood]
        confident = torch.cat([is_id.nonzero(), is_ood.nonzero()]).squeeze(-1)
        self._moved().keep(
            embedding[confident],
            torch.cat([names.argmax(-1), words.argmax(-1) + self.classes_]),
            torch.cat([functional.entropy(names), functional.entropy(words)]),
            self.counts_[0] + confident,
        )
        self.history_.extend(is_id[is_id | is_ood].int().tolist())
        more = (len(logits), len(names), len(words))
        self.counts_ = [count + added for count, added in zip(self.counts_, more, strict=True)]

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
        raise MmoodError(f"AdaNeg.temperature is {temperature}; it must be a finite number greater than 0.")
    if not 0 <= weight < math.inf:
        raise MmoodError(f"AdaNeg.weight is {weight}; it must be a finite number of at least 0.")
