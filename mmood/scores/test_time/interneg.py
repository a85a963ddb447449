"""InterNeg: negative words far from the ID images, and words made of test images that look out-of-distribution."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Literal, Self, final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mmood.errors import MmoodError
from mmood.scores.base import Embedded, Part, Reference
from mmood.scores.functional_negatives import group_logsumexp, group_order, grouped_log_odds
from mmood.scores.negatives import NegativePrototypes
from mmood.scores.test_time.base import AbstractStreamScore, Update
from mmood.scores.test_time.class_images import CLASS_IMAGES, ClassImages, class_proxies
from mmood.scores.test_time.inversion import INVERSION, EncodeTokens, Inversion, Prompts, invert, read_prompts
from mmood.scores.test_time.state import checked_state, received
from mmood.words.criteria import inter_modal_deviation
from mmood.words.miner import INTERNEG as INTERNEG_MINING
from mmood.words.miner import NegativeMiner


@dataclass(frozen=True)
class _Fitted:
    """What `fit` learns: C ID names and their image proxies, M negatives in the list's order, the text tower."""

    positive: Float[Tensor, "classes dim"]
    proxies: Float[Tensor, "classes dim"]
    negative: Float[Tensor, "negatives dim"]
    prompts: Prompts
    encode: EncodeTokens

    def to(self, device: torch.device) -> _Fitted:
        """Return it with the embeddings on a device; the text tower stays where it is."""
        positive, proxies, negative = (rows.to(device) for rows in (self.positive, self.proxies, self.negative))
        return _Fitted(positive, proxies, negative, self.prompts, self.encode)


@dataclass(frozen=True)
class _Memory:
    """What the stream taught: kept inversions by falling deviation, and counts.

    Attributes:
        bank: (K, D) unit-norm text embeddings of pseudo-words.
        deviation: (K,) mean_c (b_c - cos(e, p_c)) of each.
        place: (K,) int64, which image of the stream each was made of.
        counts: (3,) int64: images seen, gated as OoD, accepted by the filter.
    """

    bank: Float[Tensor, "kept dim"]
    deviation: Float[Tensor, " kept"]
    place: Int[Tensor, " kept"]
    counts: Int[Tensor, " 3"]

    def to(self, device: torch.device) -> _Memory:
        """Return it on a device."""
        return _Memory(self.bank.to(device), self.deviation.to(device), self.place.to(device), self.counts.to(device))


@final
class InterNeg(AbstractStreamScore):
    """InterNeg: NegLabel's score against words far from ID images and inverted test images (arXiv 2603.02618).

    Offline: p_c is the normalised mean of the unit-norm embeddings of a class's images, b_c = cos(t_c, p_c); a word is
    admissible if cos(w, p_c) < b_c for every c, and those with the largest D(w) = mean_c (b_c - cos(w, p_c)) are the
    negatives. Online, for a batch: images with S <= beta are inverted into words (`inversion.invert`), these pass the
    same filter and enter a bank of the K with the largest D, and the batch is scored again against negatives and bank.
    The score is log S - log(1 - S) of NegLabel's S; beta gates on S itself.

    The defaults are the paper's where it is known; ours are `images.transform`, `inversion.read_out` (the code's last
    template is a draw, of which we take the mean) and `rescore`. The released code runs in float16; this does not.

    Args:
        groups: G; the paper uses 5 on far and 1 on near sets. M + K negatives are grouped anew when the bank grows.
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
        seed: of the private generator that puts negatives into groups.
    """

    needs: frozenset[Part] = frozenset({"embedding"})

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
        seed: int = 0,
    ) -> None:
        super().__init__(update)
        _check(temperature, images, beta, bank_size, rescore)
        self.temperature = temperature
        self.prototypes = NegativePrototypes(negatives, mining, groups, seed)
        self.images = replace(images, transform="train") if reference_behaviour else images
        self.beta = beta
        self.bank_size = bank_size
        self.inversion = replace(inversion, read_out="last") if reference_behaviour else inversion
        self.rescore = rescore
        self.reference_behaviour = reference_behaviour
        self.fitted_: _Fitted | None = None
        self.memory_ = _empty(0, torch.device("cpu"))
        self.grouped_ = torch.empty(0)
        self._generator = torch.Generator()

    def fit(self, reference: Reference) -> Self:
        """Read the class images, mine the negatives at the first call, encode; forget the stream.

        Raises:
            MmoodError: no ID training set, a class without images, an encoder without a text tower of open_clip's.
        """
        prompts = read_prompts(reference, self.inversion.templates)
        proxies = class_proxies(reference, self.images)
        positive, negative = self.prototypes.encode(reference, proxies)
        self.fitted_ = _Fitted(positive, proxies.to(positive), negative, prompts, reference.encode_tokens)
        self.reset()
        return self

    def reset(self, seed: int = 0) -> None:
        """Forget the stream; seed new pseudo-tokens and the draw of templates."""
        fitted = self._learned()
        self._generator.manual_seed(seed)
        self._remember(_empty(fitted.positive.shape[1], fitted.positive.device))

    @torch.no_grad()
    def forward(self, embedded: Embedded) -> Float[Tensor, " batch"]:
        """Return log S - log(1 - S) against the negatives and the bank as it is."""
        return self._score(self._embedding(embedded))

    @torch.no_grad()
    def step(self, embedded: Embedded) -> Float[Tensor, " batch"]:
        """Return the scores of the next batch and learn from it."""
        embedding = self._embedding(embedded)
        before = self._score(embedding)
        accepted = self._learn(embedding, before)
        if self.update == "after" or not accepted.any():
            return before
        after = self._score(embedding)
        return after if self.rescore == "batch" else torch.where(accepted, after, before)

    def state(self) -> dict[str, Tensor]:
        """Return bank, deviations, places, counts and the generator."""
        tensors = {name: tensor.clone() for name, tensor in vars(self.memory_).items()}
        return {**tensors, "generator": self._generator.get_state()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take back what `state` returned; MmoodError if it is none of this score."""
        rows = ("bank", "deviation", "place")
        taken = checked_state("InterNeg", self.state(), state, exact=("generator", "counts"), together=rows)
        self._generator.set_state(taken.pop("generator").cpu())
        self._remember(_Memory(**taken))

    def counts(self) -> dict[str, int]:
        """Return how many images were seen, gated as OoD and accepted, and how many the bank holds."""
        seen, gated, accepted = self.memory_.counts.tolist()
        return {"seen": seen, "gated_ood": gated, "accepted": accepted, "bank": len(self.memory_.bank)}

    def members(self) -> dict[Literal["id", "ood"], Int[Tensor, " kept"]]:
        """Return the places of the images whose inversions are in the bank; none is taken for ID."""
        return {"id": self.memory_.place.new_empty(0), "ood": self.memory_.place.clone()}

    def learned(self) -> dict[str, object]:
        """Return the list, which was mined with the weights of the first `fit`."""
        return self.prototypes.learned()

    def restore(self, learned: Mapping[str, object]) -> None:
        """Take the list back."""
        self.prototypes.restore(learned)

    def settings(self) -> dict[str, object]:
        """Return what it takes to compute the same number; the list's entries only after `fit`."""
        words = {name: value for name, value in self.prototypes.settings().items() if name != "negatives_used"}
        return {
            "temperature": self.temperature,
            **words,
            **asdict(self.images),
            "beta": self.beta,
            "bank_size": self.bank_size,
            "inversion": asdict(self.inversion),
            "rescore": self.rescore,
            "update": self.update,
            "reference_behaviour": self.reference_behaviour,
        }

    def _learn(self, embedding: Tensor, scores: Tensor) -> Bool[Tensor, " batch"]:
        """Invert the images that look OoD and keep the best inversions; return which images had theirs accepted."""
        fitted, memory = self._learned(), self.memory_
        gated = gate(scores, self.beta, strict=self.reference_behaviour)
        words = invert(embedding[gated], fitted.prompts, fitted.encode, self.inversion, self._generator)
        admissible, deviation = inter_modal_deviation(words, fitted.proxies, fitted.positive)
        accepted = gated.clone()
        accepted[gated] = admissible
        place = memory.counts[0] + accepted.nonzero().squeeze(-1)
        deviation, order = torch.cat([memory.deviation, deviation[admissible]]).sort(descending=True, stable=True)
        kept = order if self.reference_behaviour else order[: self.bank_size]
        bank = torch.cat([memory.bank, words[admissible]])[kept]
        counts = memory.counts + torch.stack([torch.tensor(len(gated)).to(place), gated.sum(), accepted.sum()])
        changed = _Memory(bank, deviation[: len(kept)], torch.cat([memory.place, place])[kept], counts)
        self._remember(changed, regroup=bool(accepted.any()))
        return accepted

    def _score(self, embedding: Tensor) -> Float[Tensor, " batch"]:
        positive = group_logsumexp(embedding, self._learned().positive, self.temperature).squeeze(-1)
        negative = group_logsumexp(embedding, self.grouped_, self.temperature, self.prototypes.groups)
        return grouped_log_odds(positive, negative)

    def _remember(self, memory: _Memory, regroup: bool = True) -> None:
        """Take a new memory; put negatives and bank into their groups, by a permutation that their number fixes."""
        self.memory_ = memory
        if regroup:
            texts = torch.cat([self._learned().negative, memory.bank[: self.bank_size]])
            order = group_order(len(texts), self.prototypes.groups, self.prototypes.seed)
            self.grouped_ = texts[order.to(texts.device)]

    def _embedding(self, embedded: Embedded) -> Float[Tensor, "batch dim"]:
        return received(self, embedded, self._learned().positive, self._move)

    def _move(self, device: torch.device) -> None:
        self.fitted_ = self._learned().to(device)

    def _learned(self) -> _Fitted:
        if self.fitted_ is None:
            raise MmoodError("InterNeg has learned nothing yet; call InterNeg.fit(reference) before it scores images.")
        return self.fitted_


def gate(log_odds: Float[Tensor, " batch"], beta: float, strict: bool = False) -> Bool[Tensor, " batch"]:
    """Return which images have S <= beta (S < beta if `strict`), of the log-odds of S.

    >>> gate(torch.tensor([-1.0, 0.0, 1.0]), 0.5)
    tensor([ True,  True, False])
    """
    limit = math.inf if beta == 1 else -math.inf if beta == 0 else math.log(beta / (1 - beta))
    return log_odds < limit if strict else log_odds <= limit


def _empty(dim: int, device: torch.device) -> _Memory:
    place = torch.empty(0, dtype=torch.int64, device=device)
    return _Memory(torch.empty(0, dim, device=device), torch.empty(0, device=device), place, place.new_zeros(3))


def _check(temperature: float, images: ClassImages, beta: float, bank_size: int, rescore: str) -> None:
    if not 0 < temperature < math.inf:
        raise MmoodError(f"InterNeg.temperature is {temperature}; it must be a finite number greater than 0.")
    if not 0 <= beta <= 1:
        raise MmoodError(f"InterNeg.beta is {beta}; it is a probability and must lie in [0, 1].")
    for name, value in (("bank_size", bank_size), ("images.shots", images.shots)):
        if value < 1:
            raise MmoodError(f"InterNeg.{name} is {value}; it must be at least 1.")
    if rescore not in ("batch", "accepted"):
        raise MmoodError(f"InterNeg.rescore is '{rescore}'; it must be 'batch' or 'accepted'.")
