"""TANL: the words that confident OoD images activate, and confident ID images do not, are the negative labels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Literal, final

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from mmood.errors import MmoodError
from mmood.scores.base import Embedded, Output, Reference
from mmood.scores.negatives import NegativePrototypes
from mmood.scores.surroundings import Surroundings
from mmood.scores.test_time import functional_tanl as functional
from mmood.scores.test_time.base import AbstractStreamScore, Kept, Update, gate_counts
from mmood.scores.test_time.memory import Derived, check_counts, check_places, check_range, check_size
from mmood.scores.test_time.noise import noise_images, released_noise
from mmood.scores.test_time.thresholds import least_variance_threshold, otsu
from mmood.scores.test_time.word_pool import other_words
from mmood.settings import check_choice, check_count, check_number
from mmood.settings.requirements import Requirement
from mmood.words.miner import ADANEG, NegativeMiner


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
        pool: the words that are ranked: the `mined` ones, or the whole `corpus` that they were mined from.
        noise: images of each of five kinds of noise with which the OoD queue starts; 0 for an empty queue.
        noise_side: their side in pixels, before the transform (not said).
        noise_form: `images`, which the transform takes like test images, or `released`, see `noise.released_noise`.
    """

    words: int = 1000
    length: int = 300
    alpha: float = 0.95
    with_batch: bool = False
    over: functional.Over = "all"
    pool: Literal["mined", "corpus"] = "mined"
    noise: int = 3
    noise_side: int = 224
    noise_form: Literal["images", "released"] = "images"

    def __post_init__(self) -> None:
        check_count("activation.words", self.words)
        check_count("activation.length", self.length)
        check_count("activation.noise", self.noise, least=0)
        check_count("activation.noise_side", self.noise_side)
        check_number("activation.alpha", self.alpha, least=0, most=1)
        check_choice("activation.over", self.over, ("all", "words"))
        check_choice("activation.pool", self.pool, ("mined", "corpus"))
        check_choice("activation.noise_form", self.noise_form, ("images", "released"))


@dataclass(frozen=True)
class OtsuGate:
    """Which images are confident: S > t + gap (1 - t) for ID, S < t - gap t for OoD, t Otsu's threshold.

    Attributes:
        gap: g.
        history: the threshold splits the last so many scores, those of the batch among them.
        score: which S: against the words as they are `ranked` before the batch, or against `all` (not said).
        start: the history begins `empty`, or with the plain S, against the mined words, of the `texts` and noise that
            the queues begin with.
        steps: thresholds are looked for on a grid of so many steps in [0, 1]; 0 for between any two scores.
    """

    gap: float = 0.2
    history: int = 20_000
    score: Literal["ranked", "all"] = "ranked"
    start: Literal["empty", "texts"] = "empty"
    steps: int = 0

    def __post_init__(self) -> None:
        check_number("gate.gap", self.gap, least=0, most=1)
        check_count("gate.history", self.history)
        check_count("gate.steps", self.steps, least=0)
        check_choice("gate.score", self.score, ("ranked", "all"))
        check_choice("gate.start", self.start, ("empty", "texts"))

    def threshold(self, scores: Float[Tensor, " scores"]) -> float:
        """Return Otsu's threshold of scores in [0, 1]."""
        return least_variance_threshold(scores, self.steps) if self.steps else otsu(scores)


ACTIVATION = Activation()
"""TANL's choice of words."""

GATE = OtsuGate()
"""TANL's gate."""


@dataclass(frozen=True)
class Fitted:
    """What TANL learns of the ID side.

    Attributes:
        texts: (C + M, D) unit-norm embeddings of the ID names, then of the words, the mined ones first.
        classes: C.
        mined: number of mined words.
        noise: (K, M) activations of the images of noise.
        noise_score: (K,) their plain S against the mined words.
    """

    texts: Float32[Tensor, "texts dim"]
    classes: int
    mined: int
    noise: Float32[Tensor, "noise words"]
    noise_score: Float32[Tensor, " noise"]


@dataclass(frozen=True)
class Memory:
    """What TANL remembers of a stream: two queues of the last confident images, and past scores.

    Activations stand in the queues and not embeddings: a queue is averaged at every batch, and changes by a part.

    Attributes:
        id_activation: (K, M) of the images in the ID queue.
        id_place: (K,) their positions in the stream, -1 for the ID names that the queue began with.
        ood_activation: of the images in the OoD queue.
        ood_place: their positions in the stream, -1 for noise.
        past: the last S of the gate.
        counts: images seen, passed by the ID gate, passed by the OoD gate.
        id_mean: mean activation in the ID queue; None if it is empty.
        ood_mean: the same of the OoD queue.
    """

    id_activation: Float32[Tensor, "id_kept words"]
    id_place: Int64[Tensor, " id_kept"]
    ood_activation: Float32[Tensor, "ood_kept words"]
    ood_place: Int64[Tensor, " ood_kept"]
    past: Float32[Tensor, " past"]
    counts: Int64[Tensor, " 3"]
    id_mean: Derived[Float32[Tensor, " words"] | None]
    ood_mean: Derived[Float32[Tensor, " words"] | None]


@final
class TANL(AbstractStreamScore[Fitted, Memory]):
    """TANL: NegLabel's score against words that the test stream activates (arXiv 2603.25250), as log-odds.

    Every image activates every word by its softmax probability. Two queues hold the activations of the last confident
    ID and OoD images; words are ranked by Act_OoD - Act_ID. S is the mean over m of P / (P + N(m)), N(m) the mass of
    the first m words. An image is judged confident by S with the words ranked by the queues as they stand before its
    batch; the batch is then scored with each Act mixed of queue and confident images of the batch. The queues start
    with ID names and with noise. Defaults are the paper's where we know them; `Activation` and `OtsuGate` say where
    not.

    Warning:
        Its numbers belong to a stream: the paper's mean FPR95 of 9.8 % on shuffled streams is 16.5 % with ID
        images first. The released script has other settings than the paper; `reference_behaviour` is the
        script.

    Args:
        temperature: T, divides the cosine.
        negatives: file with the list to use (see `load_negatives`); None to mine one.
        mining: how to mine.
        activation: how words are activated and chosen.
        gate: which images are confident.
        step: step size of m; 0 for all chosen words together.
        update: learn from a batch before or after it is scored.
        reference_behaviour: as the released code and script, whatever the settings say: gate.gap 0.5, and alpha 0 (the
            batch alone); the whole corpus is ranked; Otsu's history starts with ID names and noise, on a grid of 0.01;
            noise as released. Its float16 is not followed.
        seed: of the noise; None for that of the run.
    """

    needs: frozenset[Output] = frozenset({"embedding"})

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
        seed: int | None = None,
    ) -> None:
        prototypes = NegativePrototypes(negatives, mining, groups=1, seed=0)
        super().__init__(update, prototypes)
        check_number("TANL.temperature", temperature, above=0)
        check_count("TANL.step", step, least=0, most=activation.words)
        check_count("TANL.seed", seed, least=0, null="the run's")
        self.temperature = temperature
        self.prototypes = prototypes
        if reference_behaviour:
            activation = replace(activation, alpha=0.0, pool="corpus", noise_form="released")
            gate = replace(gate, gap=0.5, start="texts", steps=100)
        self.activation = activation
        self.gate = gate
        self.words_per_step = step
        self.reference_behaviour = reference_behaviour
        self.seed = seed or 0

    def requirements(self, around: Surroundings) -> Iterable[Requirement]:
        """Return the text encoder, and the list or the words that it is mined from."""
        return (around.text_encoder(), self.prototypes.requirement())

    def learn(self, reference: Reference) -> Fitted:
        """Read or mine the words at the first call; encode them, the ID names and the noise.

        Raises:
            MmoodError: the list has fewer words than `step`.
        """
        positive, negative = self.prototypes.encode(reference)
        words = negative
        if self.activation.pool == "corpus":
            assert self.prototypes.list_ is not None
            words = torch.cat([words, other_words(self.prototypes.mining, self.prototypes.list_, reference).to(words)])
        if len(words) < self.words_per_step:
            raise MmoodError(f"TANL.step is {self.words_per_step}, but the list has only {len(words)} negative labels.")
        none = words.new_empty(0)
        fitted = Fitted(torch.cat([positive, words]), len(positive), len(negative), none.view(0, len(words)), none)
        noise = self._noise(reference).to(positive) if self.activation.noise else positive[:0]
        logits = self._logits(fitted, noise[: self.activation.length])
        return replace(fitted, noise=self._activations(fitted, logits), noise_score=_plain(fitted, logits))

    def start(self, fitted: Fitted, seed: int) -> Memory:
        """Return queues that hold noise and, drawn again, as many ID names as there is room for."""
        drawn = torch.randperm(fitted.classes, generator=torch.Generator().manual_seed(seed))
        names = fitted.texts[: fitted.classes][drawn[: self.activation.length].to(fitted.texts.device)]
        logits = self._logits(fitted, names)
        queues = self._activations(fitted, logits), fitted.noise
        means = [mean_activation(queue) for queue in queues]
        places = [torch.full((len(queue),), -1, dtype=torch.int64, device=queue.device) for queue in queues]
        past = torch.cat([_plain(fitted, logits), fitted.noise_score]) if self.gate.start == "texts" else logits[:0, 0]
        counts = torch.zeros(3, dtype=torch.int64, device=past.device)
        return Memory(queues[0], places[0], queues[1], places[1], past[-self.gate.history :], counts, *means)

    def resume(self, fitted: Fitted, saved: dict[str, Tensor]) -> Memory:
        """Return the memory of saved tensors; MmoodError if their values cannot be those of this score."""
        seen, *gated = check_counts("TANL", saved["counts"])
        length, first = self.activation.length, self.start(fitted, seed=0)
        begun = len(first.id_place), len(first.ood_place)
        for side, passed, names in zip(("id", "ood"), gated, begun, strict=True):
            check_places("TANL", saved[f"{side}_place"], seen, least=-1)
            check_range("TANL", f"{side}_activation", saved[f"{side}_activation"], 0, 1)
            check_size("TANL", f"images in the {side} queue", len(saved[f"{side}_place"]), min(length, names + passed))
        began = len(first.past)
        check_size("TANL", "past scores", len(saved["past"]), min(self.gate.history, began + seen))
        check_range("TANL", "past", saved["past"], 0, 1)
        means = [mean_activation(saved[f"{side}_activation"]) for side in ("id", "ood")]
        return Memory(**saved, id_mean=means[0], ood_mean=means[1])

    def score(self, fitted: Fitted, memory: Memory, embedding: Float[Tensor, "batch dim"]) -> Float[Tensor, " batch"]:
        """Return the log-odds of S with the words ranked by the queues alone."""
        return self._score(fitted, self._difference(memory), self._logits(fitted, embedding))

    def advance(self, fitted: Fitted, memory: Memory, batch: Embedded) -> tuple[Float[Tensor, " batch"], Memory]:
        """Gate the batch by the ranking of the queues; score it by that of the queues and its confident images."""
        embedding = batch.joint()
        logits = self._logits(fitted, embedding)
        before = self._score(fitted, self._difference(memory), logits)
        learned, new = self._learned(fitted, memory, logits, before)
        if self.update == "after":
            return before, learned
        behind = learned if self.activation.with_batch else memory
        return self._score(fitted, self._difference(behind, new), logits), learned

    def count(self, fitted: Fitted, memory: Memory) -> dict[str, int]:
        """Return how many images were seen and passed each gate, and how many the queues hold."""
        return gate_counts(memory.counts, self.kept(fitted, memory), "queue")

    def kept(self, fitted: Fitted, memory: Memory) -> Kept:
        """Return the positions of the images in the queues, without what these started with."""
        return {"id": memory.id_place[memory.id_place >= 0], "ood": memory.ood_place[memory.ood_place >= 0]}

    def details(self) -> dict[str, object]:
        """Return what `reference_behaviour` makes of the settings and, after `fit`, what list and pool are."""
        found = {**self.prototypes.details(), "activation": asdict(self.activation), "gate": asdict(self.gate)}
        if self.activation.pool == "corpus" and self.fitted_ is not None:
            found["corpus_words"] = len(self.fitted_.texts) - self.fitted_.classes
        return found

    def leading(self) -> Int64[Tensor, " leading"]:
        """Return the words that lead by the queues alone, as places in the pool (mined first), most OoD-like first."""
        return functional.ranking(self._difference(self._memory()), self.activation.words)

    def _noise(self, reference: Reference) -> Float[Tensor, "noise dim"]:
        if self.activation.noise_form == "released":
            return reference.encode_pixels(released_noise(self.activation.noise, reference.image_size, self.seed))
        return reference.encode_images(noise_images(self.activation.noise, self.activation.noise_side, self.seed))

    def _logits(self, fitted: Fitted, embedding: Tensor) -> Float[Tensor, "batch texts"]:
        return (embedding / self.temperature) @ fitted.texts.T

    def _score(self, fitted: Fitted, difference: Tensor, logits: Tensor) -> Float[Tensor, " batch"]:
        leading = functional.ranking(difference, self.activation.words)
        ranked = logits[:, fitted.classes + leading]
        return functional.tanl_log_odds(logits[:, : fitted.classes], ranked, self.words_per_step)

    def _activations(self, fitted: Fitted, logits: Tensor) -> Float[Tensor, "batch words"]:
        return functional.activations(logits, fitted.classes, self.activation.over)

    def _gate_scores(self, fitted: Fitted, logits: Tensor, log_odds: Tensor) -> Float[Tensor, " batch"]:
        """Return the S that the gate looks at."""
        if self.gate.score == "all":
            names, words = logits[:, : fitted.classes], logits[:, fitted.classes :]
            log_odds = functional.tanl_log_odds(names, words, step=0)
        return log_odds.sigmoid()

    def _learned(
        self, fitted: Fitted, memory: Memory, logits: Tensor, log_odds: Tensor
    ) -> tuple[Memory, tuple[Tensor, Tensor]]:
        """Return the memory with the confident images of a batch, and the activations of these, ID first."""
        values = self._gate_scores(fitted, logits, log_odds)
        past = torch.cat([memory.past, values])[-self.gate.history :].clone()
        threshold, gap = self.gate.threshold(past), self.gate.gap
        gates = values > threshold + gap * (1 - threshold), values < threshold - gap * threshold
        new = self._activations(fitted, logits[gates[0]]), self._activations(fitted, logits[gates[1]])
        pushed = self._pushed(memory, new, [memory.counts[0] + gate.nonzero().squeeze(-1) for gate in gates])
        more = torch.tensor([len(logits), len(new[0]), len(new[1])]).to(memory.counts)
        return replace(pushed, past=past, counts=memory.counts + more), new

    def _pushed(self, memory: Memory, new: tuple[Tensor, Tensor], place: list[Tensor]) -> Memory:
        """Return the memory with new images behind those of the queues, the oldest dropped."""
        length = self.activation.length
        if len(place[0]):
            activation = functional.pushed(memory.id_activation, new[0], length)
            places = functional.pushed(memory.id_place, place[0], length)
            memory = replace(memory, id_activation=activation, id_place=places, id_mean=mean_activation(activation))
        if len(place[1]):
            activation = functional.pushed(memory.ood_activation, new[1], length)
            places = functional.pushed(memory.ood_place, place[1], length)
            memory = replace(memory, ood_activation=activation, ood_place=places, ood_mean=mean_activation(activation))
        return memory

    def _difference(self, memory: Memory, new: tuple[Tensor, Tensor] | None = None) -> Float[Tensor, " words"]:
        """Return Act_OoD - Act_ID of each word: of the queues alone, or each mixed with new activations, ID first."""
        none = memory.id_activation[:0]
        new_id, new_ood = new or (none, none)
        act_id = functional.mixed_activation(memory.id_mean, new_id, self.activation.alpha)
        return functional.mixed_activation(memory.ood_mean, new_ood, self.activation.alpha) - act_id


def _plain(fitted: Fitted, logits: Float[Tensor, "rows texts"]) -> Float[Tensor, " rows"]:
    """Return S against all mined words together."""
    names, words = logits[:, : fitted.classes], logits[:, fitted.classes : fitted.classes + fitted.mined]
    return functional.tanl_log_odds(names, words, step=0).sigmoid()


def mean_activation(queue: Float[Tensor, "kept words"]) -> Float[Tensor, " words"] | None:
    """Return the mean activation in a queue; None if it is empty."""
    return queue.mean(0) if len(queue) else None
