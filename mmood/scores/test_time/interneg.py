"""InterNeg: negative words far from the ID images, and words made of test images that look out-of-distribution."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Literal, final

import torch
from jaxtyping import Bool, Float, Float32, Int64, UInt8
from torch import Tensor

from mmood.errors import MmoodError
from mmood.scores.base import Embedded, Output, Reference
from mmood.scores.functional_negatives import group_logsumexp, grouped_log_odds
from mmood.scores.negatives import NegativePrototypes
from mmood.scores.surroundings import Surroundings
from mmood.scores.test_time.base import AbstractStreamScore, Kept, Update
from mmood.scores.test_time.class_images import CLASS_IMAGES, ClassImages, class_proxies
from mmood.scores.test_time.inversion import INVERSION, Inversion, Prompts, invert, read_prompts
from mmood.scores.test_time.inverted_words import InvertedWords, admitted, gate, no_words
from mmood.scores.test_time.memory import Derived, check_counts, check_size, generator_of
from mmood.scores.text_tower import TextTower
from mmood.settings import check_choice, check_count, check_number
from mmood.settings.requirements import Requirement
from mmood.words.miner import INTERNEG as INTERNEG_MINING
from mmood.words.miner import NegativeMiner


@dataclass(frozen=True)
class Fitted:
    """What InterNeg learns of the ID side.

    Attributes:
        positive: (C, D) unit-norm embeddings of the ID names.
        proxies: (C, D) mean image embeddings of the classes.
        negative: (M, D) of the negatives, in the order of the list.
        prompts: of the inversion; with the text tower, they stay on its device.
        tower: the text tower.
    """

    positive: Float32[Tensor, "classes dim"]
    proxies: Float32[Tensor, "classes dim"]
    negative: Float32[Tensor, "negatives dim"]
    prompts: Prompts
    tower: TextTower


@dataclass(frozen=True)
class Memory:
    """What InterNeg remembers of a stream.

    Attributes:
        words: the bank: kept inversions.
        counts: images seen, gated as OoD, accepted by the filter.
        generator: state of the private generator.
        grouped: negatives and bank, group by group.
    """

    words: InvertedWords
    counts: Int64[Tensor, " 3"]
    generator: UInt8[Tensor, " generator"]
    grouped: Derived[Float32[Tensor, "grouped dim"]]


@final
class InterNeg(AbstractStreamScore[Fitted, Memory]):
    """InterNeg: NegLabel's score against words far from ID images and inverted test images (arXiv 2603.02618).

    Offline: p_c is the normalised mean of the unit-norm embeddings of a class's images, b_c = cos(t_c, p_c); a word is
    admissible if cos(w, p_c) < b_c for every c, and those with the largest D(w) = mean_c (b_c - cos(w, p_c)) are the
    negatives. Online, for a batch: images with S <= beta are inverted into words (`inversion.invert`), these pass the
    same filter and enter a bank of the K with the largest D, and the batch is scored again against negatives and bank.
    The score is log S - log(1 - S) of NegLabel's S; beta gates on S itself.

    The defaults are the paper's where it is known; ours are `images.transform`, `inversion.read_out` (the code's last
    template is a draw, of which we take the mean) and `rescore`. The released code runs in float16; this does not.

    Warning:
        It is not zero-shot: 16 training images of each class are its default. The whole batch is scored again
        after learning, so an image is scored by what the others of its batch are: state batch size and order.
        Its four sets are not quite those of MOS (45,000 ID images, 5,160 textures).

    Args:
        groups: G; the paper uses 5 on far and 1 on near sets. M + K negative labels are regrouped when the bank grows.
        temperature: T, divides the cosine.
        negatives: file with the list to use (see `load_negatives`); None to mine one.
        mining: how to mine.
        images: which ID images stand for the classes.
        beta: images with at most this probability are inverted.
        bank_size: K.
        inversion: how an image becomes a word.
        rescore: which images of a batch get the score after learning: the whole `batch` (the released code), or those
            whose own inversion was `accepted` (the paper's algorithm, written per image).
        update: learn from a batch before or after it is scored.
        reference_behaviour: as the released code: training transform, S < beta, a bank that keeps all (the first K
            score), and the last step's template for the read-out.
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
        beta: float = 0.35,
        bank_size: int = 2000,
        inversion: Inversion = INVERSION,
        rescore: Literal["batch", "accepted"] = "batch",
        update: Update = "before",
        reference_behaviour: bool = False,
        seed: int | None = None,
    ) -> None:
        prototypes = NegativePrototypes(negatives, mining, groups, seed)
        super().__init__(update, prototypes)
        _check(temperature, beta, bank_size, rescore)
        self.temperature = temperature
        self.prototypes = prototypes
        self.images = replace(images, transform="train") if reference_behaviour else images
        self.beta = beta
        self.bank_size = bank_size
        self.inversion = replace(inversion, read_out="last") if reference_behaviour else inversion
        self.rescore = rescore
        self.reference_behaviour = reference_behaviour

    def requirements(self, around: Surroundings) -> Iterable[Requirement]:
        """Return the text encoder, ID training images, and the list or the words that it is mined from."""
        return (around.text_encoder(), around.training_images(), self.prototypes.requirement())

    def learn(self, reference: Reference) -> Fitted:
        """Read the class images, mine the negatives at the first call, encode.

        Raises:
            MmoodError: no ID training set, a class without images, an encoder without a text tower of open_clip's.
        """
        prompts = read_prompts(reference.text_tower, self.inversion.templates)
        proxies = class_proxies(reference, self.images)
        positive, negative = self.prototypes.encode(reference, proxies)
        return Fitted(positive, proxies.to(positive), negative, prompts, reference.text_tower)

    def start(self, fitted: Fitted, seed: int) -> Memory:
        """Return an empty bank; `seed` is that of new pseudo-tokens and of the draw of templates."""
        counts = torch.zeros(3, dtype=torch.int64, device=fitted.positive.device)
        generator = torch.Generator().manual_seed(seed).get_state().to(counts.device)
        return self._memory_of(fitted, no_words(fitted.positive), counts, generator)

    def resume(self, fitted: Fitted, saved: dict[str, Tensor]) -> Memory:
        """Return the memory of saved tensors; MmoodError if their values cannot be those of this score."""
        seen, gated, accepted = check_counts("InterNeg", saved["counts"])
        if accepted > gated:
            raise MmoodError(f"The state of InterNeg is inconsistent: {accepted} of {gated} inversions were accepted.")
        words = InvertedWords(saved["bank"], saved["deviation"], saved["place"])
        wanted = accepted if self.reference_behaviour else min(self.bank_size, accepted)
        check_size("InterNeg", "inversions in the bank", len(words), wanted)
        words.check("InterNeg", seen)
        generator_of(saved["generator"])
        return self._memory_of(fitted, words, saved["counts"], saved["generator"])

    def score(self, fitted: Fitted, memory: Memory, embedding: Float[Tensor, "batch dim"]) -> Float[Tensor, " batch"]:
        """Return log S - log(1 - S) against the negatives and the bank as it is."""
        positive = group_logsumexp(embedding, fitted.positive, self.temperature).squeeze(-1)
        negative = group_logsumexp(embedding, memory.grouped, self.temperature, self.prototypes.groups)
        return grouped_log_odds(positive, negative)

    def advance(self, fitted: Fitted, memory: Memory, batch: Embedded) -> tuple[Float[Tensor, " batch"], Memory]:
        """Score the batch, learn from what looks OoD, and score it again where an inversion was accepted."""
        embedding = batch.joint()
        before = self.score(fitted, memory, embedding)
        learned, accepted = self._learned(fitted, memory, embedding, before)
        if self.update == "after" or not accepted.any():
            return before, learned
        after = self.score(fitted, learned, embedding)
        return after if self.rescore == "batch" else torch.where(accepted, after, before), learned

    def count(self, fitted: Fitted, memory: Memory) -> dict[str, int]:
        """Return how many images were seen, gated as OoD and accepted, and how many the bank holds."""
        seen, gated, accepted = memory.counts.tolist()
        return {"seen": seen, "gated_ood": gated, "accepted": accepted, "bank": len(memory.words)}

    def kept(self, fitted: Fitted, memory: Memory) -> Kept:
        """Return the positions of the images whose inversions are in the bank; none is taken for ID."""
        return {"id": memory.words.place[:0], "ood": memory.words.place.clone()}

    def details(self) -> dict[str, object]:
        """Return what `reference_behaviour` makes of the settings and, after `fit`, what the list is."""
        return {**self.prototypes.details(), "images": asdict(self.images), "inversion": asdict(self.inversion)}

    def _learned(
        self, fitted: Fitted, memory: Memory, embedding: Tensor, scores: Tensor
    ) -> tuple[Memory, Bool[Tensor, " batch"]]:
        """Return the memory with the best inversions of images that look OoD, and which had theirs accepted."""
        generator = generator_of(memory.generator)
        gated = gate(scores, self.beta, strict=self.reference_behaviour)
        new, accepted = admitted(
            embedding,
            gated,
            memory.counts[0],
            lambda images: invert(images, fitted.prompts, fitted.tower, self.inversion, generator),
            fitted.proxies,
            fitted.positive,
        )
        counts = memory.counts + torch.tensor([len(gated), int(gated.sum()), len(new)]).to(memory.counts)
        state = generator.get_state().to(memory.counts.device)
        if not len(new):
            return replace(memory, counts=counts, generator=state), accepted
        bank = memory.words.joined(new)
        bank = bank if self.reference_behaviour else bank[: self.bank_size]
        return self._memory_of(fitted, bank, counts, state), accepted

    def _memory_of(self, fitted: Fitted, words: InvertedWords, counts: Tensor, generator: Tensor) -> Memory:
        """Return the memory with negatives and bank in their groups, by a permutation that their number fixes."""
        texts = torch.cat([fitted.negative, words.bank[: self.bank_size]])
        return Memory(words, counts, generator, self.prototypes.in_groups(texts))


def _check(temperature: float, beta: float, bank_size: int, rescore: str) -> None:
    check_number("InterNeg.temperature", temperature, above=0)
    check_number("InterNeg.beta", beta, least=0, most=1)
    check_count("InterNeg.bank_size", bank_size)
    check_choice("InterNeg.rescore", rescore, ("batch", "accepted"))
