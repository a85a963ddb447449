"""AdaNeg: confident test images move the ID names and the negative labels that they resemble."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import final

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from mmood.scores.base import Embedded, Output, Reference
from mmood.scores.negatives import NegativePrototypes
from mmood.scores.surroundings import Surroundings
from mmood.scores.test_time import functional_adaneg as functional
from mmood.scores.test_time.adaptive_prototypes import AdaptivePrototypes
from mmood.scores.test_time.base import AbstractStreamScore, Kept, Update, gate_counts
from mmood.scores.test_time.image_memory import check_images, no_images
from mmood.scores.test_time.image_proxies import PROXIES, Proxies
from mmood.scores.test_time.memory import check_counts, check_range, check_size
from mmood.scores.test_time.softmax_masses import SoftmaxMasses
from mmood.settings import check_count, check_number
from mmood.settings.requirements import Requirement
from mmood.words.miner import ADANEG as ADANEG_MINING
from mmood.words.miner import NegativeMiner

LogProbabilities = tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]


@dataclass(frozen=True)
class Gates:
    """Which images are confident: S > centre + gap (1 - centre) for ID, S < centre - gap centre for OoD.

    Attributes:
        centre: of both gates, gamma in the paper.
        gap: g.
        adaptive: for streams with far more of one kind. With r the share of ID among the last images that pass the
            gates with the fixed gap, the OoD gate has gap r while r > 0.5, the ID gate gap 1 - r while r < 0.5.
        history: how many images r counts; those of a batch count from the next batch on.
        start: how many of each kind stand in the history before the first image.
    """

    centre: float = 0.5
    gap: float = 0.5
    adaptive: bool = False
    history: int = 10_000
    start: int = 100

    def __post_init__(self) -> None:
        check_number("gates.centre", self.centre, least=0, most=1)
        check_number("gates.gap", self.gap, least=0, most=1)
        check_count("gates.history", self.history, least=2)
        check_count("gates.start", self.start, most=self.history // 2)

    def first_history(self, device: torch.device) -> Int64[Tensor, " past"]:
        """Return the history before the first image."""
        return torch.tensor([1, 0] * self.start, device=device)

    def past(self, decisions: int) -> int:
        """Return how long the history is after so many decisions."""
        return min(self.history, 2 * self.start + decisions)

    def gaps(self, history: Int64[Tensor, " past"]) -> tuple[float, float]:
        """Return the adaptive gaps of the ID gate and of the OoD gate, given past decisions (1 ID, 0 OoD)."""
        share = int(history.sum()) / len(history)
        return (1 - share if share < 0.5 else self.gap), (share if share > 0.5 else self.gap)


GATES = Gates()
"""AdaNeg's gates."""


@dataclass(frozen=True)
class Fitted:
    """What AdaNeg learns of the ID side.

    Attributes:
        texts: (T, D) unit-norm embeddings of the ID names, then of the negatives, group by group.
        classes: number of ID names.
    """

    texts: Float32[Tensor, "texts dim"]
    classes: int


@dataclass(frozen=True)
class Memory:
    """What AdaNeg remembers of a stream.

    Attributes:
        prototypes: the texts and the confident images under each.
        counts: images seen, passed by the ID gate, passed by the OoD gate, passed by either with the fixed gap.
        history: the last decisions with the fixed gap, 1 for ID.
    """

    prototypes: AdaptivePrototypes
    counts: Int64[Tensor, " 4"]
    history: Int64[Tensor, " past"]


@final
class AdaNeg(AbstractStreamScore[Fitted, Memory]):
    """AdaNeg: NegLabel's score plus the same score against proxies that test images have moved (arXiv 2410.20149).

    Confident images, by NegLabel's S, are kept under the ID name or the negative label that is nearest to them: L a
    text, those with the lowest entropy over the C names or the M negatives. A proxy is the mean of a text and its
    images, by default weighted for each image to be scored; S_ada is S with proxies in place of texts. The score is the
    log-odds of (S_ada + weight S) / (1 + weight). The defaults are the paper's.

    In a batch that is learned before it is scored, confident images meet themselves in the memory. The M negatives are
    those in groups: a rest of M mod G at the end of the list is left out everywhere. A batch of B images holds (B, C +
    M) cosines.

    Warning:
        Its numbers belong to a stream: order, ratio of ID to OoD, batch size. Compare them only within one protocol.

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
            and with `gates.adaptive` the weight is 1 and a batch counts in its own gaps.
            The code's float16 is not followed, see `proxies.replace`.
        seed: of the private generator that puts negatives into groups; None for that of the run.
    """

    needs: frozenset[Output] = frozenset({"embedding"})

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
        seed: int | None = None,
    ) -> None:
        prototypes = NegativePrototypes(negatives, mining, groups, seed)
        super().__init__(update, prototypes)
        _check(temperature, weight)
        self.temperature = temperature
        self.prototypes = prototypes
        self.gates = gates
        self.proxies = replace(proxies, beta=float(int(proxies.beta))) if reference_behaviour else proxies
        self.weight = 1.0 if reference_behaviour and gates.adaptive else weight
        self.reference_behaviour = reference_behaviour

    def requirements(self, around: Surroundings) -> Iterable[Requirement]:
        """Return the text encoder, and the list or the words that it is mined from."""
        return (around.text_encoder(), self.prototypes.requirement())

    def learn(self, reference: Reference) -> Fitted:
        """Read or mine the negatives at the first call; encode them and the ID names."""
        positive, negative = self.prototypes.encode(reference)
        return Fitted(torch.cat([positive, self.prototypes.in_groups(negative)]), len(positive))

    def start(self, fitted: Fitted, seed: int) -> Memory:
        """Return a memory without images; nothing here is drawn, so the seed changes nothing."""
        counts = torch.zeros(4, dtype=torch.int64, device=fitted.texts.device)
        return Memory(
            self._prototypes(fitted, no_images(fitted.texts)), counts, self.gates.first_history(counts.device)
        )

    def resume(self, fitted: Fitted, saved: dict[str, Tensor]) -> Memory:
        """Return the memory of saved tensors; MmoodError if their values cannot be those of this score."""
        counts, history = saved.pop("counts"), saved.pop("history")
        seen, *_, decided = check_counts("AdaNeg", counts)
        check_size("AdaNeg", "gate decisions", len(history), self.gates.past(decided))
        check_range("AdaNeg", "history", history, 0, 1)
        check_images("AdaNeg", saved, seen)
        return Memory(self._prototypes(fitted, saved), counts, history)

    def score(self, fitted: Fitted, memory: Memory, embedding: Float[Tensor, "batch dim"]) -> Float[Tensor, " batch"]:
        """Return the log-odds of (S_ada + weight S) / (1 + weight)."""
        masses = self._masses(fitted, embedding)
        return self._score(memory, embedding, masses, functional.log_probabilities(masses.log_sums()))

    def advance(self, fitted: Fitted, memory: Memory, batch: Embedded) -> tuple[Float[Tensor, " batch"], Memory]:
        """Put confident images under their nearest text, before or after the batch is scored."""
        embedding = batch.joint()
        masses = self._masses(fitted, embedding)
        static = functional.log_probabilities(masses.log_sums())
        learned = self._learned(fitted, memory, embedding, masses.logits, static)
        return self._score(learned if self.update == "before" else memory, embedding, masses, static), learned

    def count(self, fitted: Fitted, memory: Memory) -> dict[str, int]:
        """Return how many images were seen, passed each gate and are kept, and how many texts have images."""
        filled = len(memory.prototypes.memory.filled())
        return {**gate_counts(memory.counts, self.kept(fitted, memory), "kept"), "texts_with_images": filled}

    def kept(self, fitted: Fitted, memory: Memory) -> Kept:
        """Return the positions of the images kept under ID names and under negative labels."""
        return memory.prototypes.members(fitted.classes)

    def details(self) -> dict[str, object]:
        """Return what `reference_behaviour` makes of the settings and, after `fit`, what the list is."""
        words = self.prototypes.details()
        if self.fitted_ is not None:
            words["negatives_used"] = len(self.fitted_.texts) - self.fitted_.classes
        return {**words, "proxies": asdict(self.proxies), "weight": self.weight}

    def _prototypes(self, fitted: Fitted, images: Mapping[str, Tensor]) -> AdaptivePrototypes:
        length = self.proxies.length - int(self.reference_behaviour)
        return AdaptivePrototypes.of(images, fitted.texts, self.proxies, length)

    def _masses(self, fitted: Fitted, embedding: Tensor) -> SoftmaxMasses:
        return SoftmaxMasses.of((embedding / self.temperature) @ fitted.texts.T, fitted.classes, self.prototypes.groups)

    def _score(
        self, memory: Memory, embedding: Tensor, masses: SoftmaxMasses, static: LogProbabilities
    ) -> Float[Tensor, " batch"]:
        adaptive, filled = static, memory.prototypes.memory.filled()
        if len(filled):
            # A text without images is its own proxy, so only the others' logits change.
            logits = memory.prototypes.logits(filled, embedding, self.temperature)
            adaptive = functional.log_probabilities(masses.log_sums_with(filled, logits))
        return functional.mixed_log_odds(adaptive, static, self.weight)

    def _learned(
        self, fitted: Fitted, memory: Memory, embedding: Tensor, logits: Tensor, static: LogProbabilities
    ) -> Memory:
        """Return the memory with the confident images under their nearest text."""
        log_odds, centre, gap = static[0] - static[1], self.gates.centre, self.gates.gap
        is_id, is_ood = functional.gates(log_odds, centre, gap, gap)
        decided = is_id | is_ood
        history = torch.cat([memory.history, is_id[decided].long()])[-self.gates.history :]
        if self.gates.adaptive:
            gaps = self.gates.gaps(history if self.reference_behaviour else memory.history)
            is_id, is_ood = functional.gates(log_odds, centre, *gaps)
        names, words = logits[:, : fitted.classes][is_id], logits[:, fitted.classes :][is_ood]
        own = torch.arange(fitted.classes, len(fitted.texts), device=logits.device)
        prototypes = memory.prototypes.keep_confident(embedding, (is_id, is_ood), (names, words), own, memory.counts[0])
        more = torch.tensor([len(logits), len(names), len(words), int(decided.sum())]).to(memory.counts)
        return Memory(prototypes, memory.counts + more, history)


def _check(temperature: float, weight: float) -> None:
    check_number("AdaNeg.temperature", temperature, above=0)
    check_number("AdaNeg.weight", weight, least=0)
