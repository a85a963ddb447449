"""ANTS: a model that sees images describes what looks out-of-distribution, and names what the classes look like."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal, final

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from mmood.chat import LanguageModel
from mmood.errors import MmoodError
from mmood.output.printing import complain
from mmood.scores.base import Embedded, Output, Reference
from mmood.scores.functional_negatives import neglabel_log_odds
from mmood.scores.negatives import NegativePrototypes
from mmood.scores.surroundings import Surroundings
from mmood.scores.test_time.ants_memory import Near, Sentences, Waiting, text_hash
from mmood.scores.test_time.ants_questions import (
    VERSION,
    comparing,
    describing,
    description,
    look_alikes,
    squares,
)
from mmood.scores.test_time.ants_settings import (
    DESCRIPTIONS,
    LOOK_ALIKES,
    SEEING_MODEL,
    Descriptions,
    LookAlikes,
    SeeingModel,
)
from mmood.scores.test_time.base import AbstractStreamScore, Kept, Update
from mmood.scores.test_time.functional_ants import adaptive_weight, mining_threshold, mixed_log_odds
from mmood.scores.test_time.functional_tins import tins
from mmood.scores.test_time.memory import Derived, check_counts, check_range, check_size
from mmood.scores.text_tower import TextTower
from mmood.settings import check_choice, check_number
from mmood.settings.requirements import Requirement
from mmood.words.embedding import embed_words
from mmood.words.miner import ADANEG, NegativeMiner


@dataclass(frozen=True)
class Fitted:
    """What ANTS learns of the ID side.

    Attributes:
        names: the C ID names.
        positive: (C, D) unit-norm embeddings of them.
        negative: (M, D) of the mined words, in the order of the list.
        base: (M', D) of the mined words, group by group.
        mean: per channel, of the pixels in [0, 1], as the image tower takes them.
        std: the same, the standard deviation.
        tower: the text tower.
    """

    names: tuple[str, ...]
    positive: Float32[Tensor, "classes dim"]
    negative: Float32[Tensor, "negatives dim"]
    base: Float32[Tensor, "grouped dim"]
    mean: Float32[Tensor, " 3"]
    std: Float32[Tensor, " 3"]
    tower: TextTower


@dataclass(frozen=True)
class Memory:
    """What ANTS remembers of a stream.

    Attributes:
        waiting: images to be described.
        past: S against the mined words of all images so far.
        levels: the threshold; the mean S against the far and against the near negatives.
        sentences: descriptions.
        near: look-alikes.
        predicted: how often each class was predicted.
        counts: images seen, mined and averaged; batches; updates.
        far: the far negatives, group by group.
        near_grouped: the near ones.
    """

    waiting: Waiting
    past: Float32[Tensor, " past"]
    levels: Float32[Tensor, " 3"]
    sentences: Sentences
    near: Near
    predicted: Int64[Tensor, " classes"]
    counts: Int64[Tensor, " 5"]
    far: Derived[Float32[Tensor, "grouped dim"]]
    near_grouped: Derived[Float32[Tensor, "near_grouped dim"]]


@final
class ANTS(AbstractStreamScore[Fitted, Memory]):
    """ANTS: NegLabel's score against descriptions of what looks OoD and look-alikes of the classes (arXiv 2509.03951).

    Far negatives: images with S below a threshold, S against the mined words, wait until there are enough; then the
    model describes each, and the descriptions stand in front of the queue of words, whose last ones leave it. Near
    negatives: the model names look-alikes of the classes that are predicted most. The score is the log-odds of
    lambda S_far + (1 - lambda) S_near, lambda = (1 - m_f) / ((1 - m_f) + (1 - m_n)), m the mean S of the mined images
    against either kind, where both count as if there were as many negatives as classes. Without near negatives it is
    S_far.

    Every answer is kept under its question, so the same stream gives the same numbers again, without the model. A
    question holds a small image as the tower sees it and the name of the predicted class, and nothing else.

    Unspecified in what we know of the paper, so ours: the histogram is over [0, 1]; near negatives are grouped as
    densely as the far ones; `weight_of`; the wording. The released script only describes (`use: far`), and it chooses
    among the descriptions by their activation, which this does not.

    Warning:
        Test images leave your machine if the endpoint is another's (`allow_send_images`). The released script
        describes images only (`use: far`), which is not the method of the paper's table.

    Args:
        groups: G; the queue has as many texts as there are mined words.
        temperature: T, divides the cosine.
        negatives: file with the list to use (see `load_negatives`); None to mine one.
        mining: how to mine.
        llm: the model that sees images.
        allow_send_images: whether test images may be sent to an endpoint on another machine.
        use: `far` and `near` negatives, or `both`.
        descriptions: which images are described.
        look_alikes: which classes are compared.
        weight_of: the images whose mean scores give lambda: the `mined` ones, or `all`.
        update: learn from a batch before or after it is scored.
        seed: of the private generator that puts negatives into groups; None for that of the run.
    """

    needs: frozenset[Output] = frozenset({"embedding"})

    def __init__(
        self,
        groups: int = 100,
        temperature: float = 0.01,
        negatives: str | None = None,
        mining: NegativeMiner = ADANEG,
        llm: SeeingModel = SEEING_MODEL,
        allow_send_images: bool = False,
        use: Literal["both", "far", "near"] = "both",
        descriptions: Descriptions = DESCRIPTIONS,
        look_alikes: LookAlikes = LOOK_ALIKES,
        weight_of: Literal["mined", "all"] = "mined",
        update: Update = "before",
        seed: int | None = None,
    ) -> None:
        prototypes = NegativePrototypes(negatives, mining, groups, seed)
        super().__init__(update, prototypes)
        check_number("ANTS.temperature", temperature, above=0)
        check_choice("ANTS.use", use, ("both", "far", "near"))
        check_choice("ANTS.weight_of", weight_of, ("mined", "all"))
        if use != "near":
            llm.check_images(allow_send_images)
        self.temperature = temperature
        self.prototypes = prototypes
        self.llm = llm
        self.allow_send_images = allow_send_images
        self.use = use
        self.descriptions = descriptions
        self.look_alikes = look_alikes
        self.weight_of = weight_of
        self._model: LanguageModel | None = None

    def requirements(self, around: Surroundings) -> Iterable[Requirement]:
        """Return the text encoder, the list or the words that it is mined from, and the key of the endpoint."""
        return (
            around.text_encoder(),
            self.prototypes.requirement(),
            Requirement("language model", self.llm.check_asking),
        )

    def learn(self, reference: Reference) -> Fitted:
        """Read or mine the words at the first call; encode them and the ID names.

        Raises:
            MmoodError: the model could not be asked: a key or a library is missing.
        """
        self.llm.check_asking()
        positive, negative = self.prototypes.encode(reference)
        pixels = reference.encoder.preprocessing
        return Fitted(
            tuple(reference.class_names),
            positive,
            negative,
            self.prototypes.in_groups(negative),
            positive.new_tensor(pixels.mean),
            positive.new_tensor(pixels.std),
            reference.text_tower,
        )

    def start(self, fitted: Fitted, seed: int) -> Memory:
        """Return a memory without images, descriptions and look-alikes; nothing is drawn."""
        none, place = fitted.positive[:0].clone(), fitted.positive.new_empty(0, dtype=torch.int64)
        side = self.descriptions.side
        images = torch.empty(0, side, side, 3, dtype=torch.uint8, device=none.device)
        return self._grouped(
            fitted,
            Memory(
                waiting=Waiting(images, place, place),
                past=none.new_empty(0),
                levels=none.new_tensor([self.descriptions.start, 0.0, 0.0]),
                sentences=Sentences(none, place, place),
                near=Near(none, place),
                predicted=place.new_zeros(len(fitted.positive)),
                counts=place.new_zeros(5),
                far=none,
                near_grouped=none,
            ),
        )

    def resume(self, fitted: Fitted, saved: dict[str, Tensor]) -> Memory:
        """Return the memory of saved tensors; MmoodError if their values cannot be those of this score."""
        seen, mined, averaged, _, updates = check_counts("ANTS", saved["counts"])
        check_size("ANTS", "scores", len(saved["past"]), seen)
        check_size("ANTS", "predictions", int(saved["predicted"].sum()), seen)
        check_range("ANTS", "past", saved["past"], 0, 1)
        check_range("ANTS", "levels", saved["levels"], 0, 1)
        check_range("ANTS", "predicted", saved["predicted"], 0)
        waiting, sentences, near = Waiting.of(saved), Sentences.of(saved), Near.of(saved)
        waiting.check(seen, len(fitted.positive), self.descriptions.side)
        sentences.check(seen)
        near.check(len(fitted.positive))
        if updates > self.descriptions.updates or mined < len(waiting) + len(sentences):
            raise MmoodError("The state of ANTS is inconsistent: it holds more descriptions than were asked for.")
        if averaged > (mined if self.weight_of == "mined" else seen):
            raise MmoodError("The state of ANTS is inconsistent: more images were averaged than seen.")
        kept = {name: saved[name] for name in ("past", "levels", "predicted", "counts")}
        none = fitted.positive[:0]
        memory = Memory(waiting=waiting, sentences=sentences, near=near, **kept, far=none, near_grouped=none)
        return self._grouped(fitted, memory)

    def score(self, fitted: Fitted, memory: Memory, embedding: Float[Tensor, "batch dim"]) -> Float[Tensor, " batch"]:
        """Return the log-odds of lambda S_far + (1 - lambda) S_near with the memory as it is."""
        far = self._log_odds(fitted, memory.far, embedding, self.prototypes.groups)
        if not len(memory.near) or self.use == "far":
            return far
        near = self._log_odds(fitted, memory.near_grouped, embedding, self._near_groups(fitted, len(memory.near)))
        return mixed_log_odds(far, near, self.weight(memory))

    def advance(self, fitted: Fitted, memory: Memory, batch: Embedded) -> tuple[Float[Tensor, " batch"], Memory]:
        """Mine the batch, ask where it is time to, and score it."""
        embedding = batch.joint()
        if not len(embedding):
            return self.score(fitted, memory, embedding), memory
        learned, mined = self._collected(fitted, memory, batch)
        if self.use != "near" and len(learned.waiting) > self.descriptions.waiting:
            learned = self._described(fitted, learned)
        batches = int(learned.counts[3]) - self.look_alikes.first
        if self.use != "far" and batches >= 0 and batches % self.look_alikes.every == 0:
            learned = self._compared(fitted, learned)
        learned = self._averaged(fitted, learned, embedding if self.weight_of == "all" else embedding[mined])
        return self.score(fitted, learned if self.update == "before" else memory, embedding), learned

    def weight(self, memory: Memory) -> float:
        """Return lambda."""
        if self.use == "near":
            return 0.0
        return adaptive_weight(float(memory.levels[1]), float(memory.levels[2]))

    def count(self, fitted: Fitted, memory: Memory) -> dict[str, int]:
        """Return how many images were seen and mined, how often some were described, and the number of negatives."""
        seen, mined, _, _, updates = memory.counts.tolist()
        held = {"waiting": len(memory.waiting), "descriptions": len(memory.sentences), "look_alikes": len(memory.near)}
        return {"seen": seen, "gated_ood": mined, "updates": updates, **held}

    def kept(self, fitted: Fitted, memory: Memory) -> Kept:
        """Return the positions of the images whose descriptions are in the queue; none is taken for ID."""
        place = memory.sentences.sentence_place
        return {"id": place[:0], "ood": place.clone()}

    def details(self) -> dict[str, object]:
        """Return the version of the questions and, after `fit`, what the list is."""
        return {**self.prototypes.details(), "questions": VERSION}

    def _collected(self, fitted: Fitted, memory: Memory, batch: Embedded) -> tuple[Memory, Tensor]:
        """Return the memory with the scores and predictions of a batch and its mined images, and which these are."""
        embedding = batch.joint()
        scores = self._log_odds(fitted, fitted.base, embedding, self.prototypes.groups).sigmoid()
        predicted = (embedding @ fitted.positive.T).argmax(dim=-1)
        mined = scores < memory.levels[0]
        row = mined.nonzero().squeeze(-1)
        more = memory.counts.new_tensor([len(embedding), len(row), 0, 1, 0])
        learned = replace(
            memory,
            past=torch.cat([memory.past, scores]),
            predicted=memory.predicted + predicted.bincount(minlength=len(fitted.positive)),
            counts=memory.counts + more,
        )
        if self.use == "near" or not len(row) or int(memory.counts[4]) >= self.descriptions.updates:
            return learned, mined
        images = squares(batch.images(row), fitted.mean, fitted.std, self.descriptions.side).to(row.device)
        waiting = memory.waiting.joined(images, predicted[row], memory.counts[0] + row)
        return replace(learned, waiting=waiting), mined

    def _described(self, fitted: Fitted, memory: Memory) -> Memory:
        """Return the memory with descriptions of the images that wait, and a new threshold."""
        settings = self.descriptions
        threshold = mining_threshold(memory.past, settings.bins, settings.quantile, float(memory.levels[0]))
        waiting, known = memory.waiting, set(memory.sentences.sentence_hash.tolist())
        questions = [
            describing(self.llm.name, image, fitted.names[label], settings.words, settings.tokens)
            for image, label in zip(waiting.waiting.cpu(), waiting.waiting_class.tolist(), strict=True)
        ]
        found: dict[int, tuple[str, int]] = {}
        for answer, place in zip(self._answers().answer(questions), waiting.waiting_place.tolist(), strict=True):
            text = description(answer, fitted.names)
            if text is not None and text_hash(text) not in known:
                found.setdefault(text_hash(text), (text, place))
        sentences = memory.sentences
        if found:
            texts, places = zip(*found.values(), strict=True)
            embedding = fitted.tower.encode_text(texts).to(sentences.sentences)
            sentences = sentences.preceded(embedding, found, places, len(fitted.negative))
        levels = torch.cat([memory.levels.new_tensor([threshold]), memory.levels[1:]])
        counts = memory.counts + memory.counts.new_tensor([0, 0, 0, 0, 1])
        learned = replace(memory, waiting=waiting.none(), levels=levels, sentences=sentences, counts=counts)
        return self._grouped(fitted, learned)

    def _compared(self, fitted: Fitted, memory: Memory) -> Memory:
        """Return the memory with look-alikes of the classes that were predicted most."""
        order = memory.predicted.sort(descending=True, stable=True).indices[: self.look_alikes.classes]
        classes = [label for label in order.tolist() if memory.predicted[label]]
        questions = [comparing(self.llm.name, fitted.names[label], self.look_alikes.names) for label in classes]
        found: dict[str, int] = {}
        for answer, label in zip(self._answers().answer(questions), classes, strict=True):
            for name in look_alikes(answer, fitted.names, self.look_alikes.names):
                found.setdefault(name, label)
        embedding = memory.near.near[:0]
        if found:
            templates = (self.look_alikes.template,)
            embedding = embed_words(fitted.tower.encode_text, list(found), templates).to(embedding)
        near = Near(embedding, memory.near.near_class.new_tensor(list(found.values()), dtype=torch.int64))
        return self._grouped(fitted, replace(memory, near=near))

    def _averaged(self, fitted: Fitted, memory: Memory, embedding: Tensor) -> Memory:
        """Return the memory with the mean scores of more images."""
        if not len(memory.near) or not len(embedding):
            return memory
        # Either kind counts as if there were as many negatives as classes.
        groups = max(1, len(memory.far) // len(fitted.positive))
        far = memory.far[: len(memory.far) // groups * groups]
        now = torch.stack(
            [
                tins(embedding, fitted.positive, far, self.temperature, groups).mean(),
                tins(embedding, fitted.positive, memory.near.near, self.temperature, 1).mean(),
            ]
        )
        done, count = int(memory.counts[2]), len(embedding)
        means = memory.levels[1:] + (now - memory.levels[1:]) * (count / (done + count))
        more = memory.counts.new_tensor([0, 0, count, 0, 0])
        return replace(memory, levels=torch.cat([memory.levels[:1], means]), counts=memory.counts + more)

    def _log_odds(self, fitted: Fitted, negatives: Tensor, embedding: Tensor, groups: int) -> Tensor:
        return neglabel_log_odds(embedding, fitted.positive, negatives, self.temperature, groups)

    def _near_groups(self, fitted: Fitted, count: int) -> int:
        """Return the number of groups in which near negatives are as many as far ones are in theirs."""
        return max(1, count * self.prototypes.groups // len(fitted.base))

    def _answers(self) -> LanguageModel:
        """Return what answers, and say at the first time what leaves this machine."""
        if self._model is None:
            self._model = self.llm.model()
            if self.use != "near" and not self.llm.offline and not self.llm.server().is_local:
                side = self.descriptions.side
                complain(
                    f"Test images that look OoD are sent to {self.llm.endpoint}, as JPEG files of {side} x {side}."
                )
        return self._model

    def _grouped(self, fitted: Fitted, memory: Memory) -> Memory:
        """Return a memory with its negatives in groups."""
        queue = torch.cat([memory.sentences.sentences, fitted.negative])[: len(fitted.negative)]
        near, groups = memory.near.near, self._near_groups(fitted, len(memory.near))
        return replace(
            memory,
            far=self.prototypes.in_groups(queue),
            near_grouped=self.prototypes.in_groups(near, groups) if len(near) else near,
        )
