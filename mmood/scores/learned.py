"""The scores of prompt-learning papers, which read more learned prompts than those of the ID classes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self, final

from jaxtyping import Float
from torch import Tensor

from mmood.errors import MmoodError
from mmood.prompts import LearnedPrompts, Role
from mmood.scores import functional_learned as functional
from mmood.scores.bank import fitted
from mmood.scores.base import AbstractScore, Embedded, NegativeTexts, Output, Reference
from mmood.scores.functional_negatives import neglabel_log_odds
from mmood.scores.local import AbstractLocalScore
from mmood.scores.stable import precise
from mmood.scores.surroundings import Surroundings
from mmood.settings import check_count, check_number
from mmood.settings.requirements import Requirement

Scores = Float[Tensor, " batch"]


class AbstractNegativePrompts(AbstractScore):
    """What scores of positive and negative prompts share: the prompts."""

    needs: frozenset[Output] = frozenset({"embedding"})
    texts_: NegativeTexts | None = None

    def requirements(self, around: Surroundings) -> Iterable[Requirement]:
        """Return the text encoder and the learned prompts."""
        return _requirements(self, around, "negative")

    def fit(self, reference: Reference) -> Self:
        """Encode positive and negative prompts."""
        learned = _learned(self, reference.learned, "negative")
        negative = learned.of("negative", reference.encoder, reference.class_names)
        words = tuple(f"negative prompt {number + 1}" for number in range(len(negative)))
        self.texts_ = NegativeTexts(reference.prototypes, negative, words)
        return self

    def negative_labels(self) -> NegativeTexts | None:
        """Return the negative prompts."""
        return self.texts_


@final
class IDLikeScore(AbstractNegativePrompts):
    """ID-like's score: the softmax mass of ID prompts among the learned OoD prompts (arXiv 2311.15243), as log-odds.

    It is NegLabel with one group and learned negatives. The log-odds order images as P_ID does, without ties.

    Args:
        temperature: divides the cosine.
    """

    def __init__(self, temperature: float = 0.01) -> None:
        super().__init__()
        check_number("IDLikeScore.temperature", temperature, above=0)
        self.temperature = temperature

    def forward(self, embedded: Embedded) -> Scores:
        """Return log P_ID - log(1 - P_ID)."""
        embedding = embedded.joint()
        texts = self.texts_ = fitted(self, self.texts_).to(embedding.device)
        return neglabel_log_odds(embedding, texts.positive, texts.negative, self.temperature)


@final
class NegPromptScore(AbstractNegativePrompts):
    """NegPrompt's score: the largest probability of an ID prompt among all prompts (CVPR 2024), as log-odds.

    Args:
        temperature: divides the cosine; the paper has cosines as they are.
    """

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__()
        check_number("NegPromptScore.temperature", temperature, above=0)
        self.temperature = temperature

    def forward(self, embedded: Embedded) -> Scores:
        """Return the log-odds of max_c p_c."""
        embedding = embedded.joint()
        texts = self.texts_ = fitted(self, self.texts_).to(embedding.device)
        rows, positive, negative = _precise(embedding, texts.positive, texts.negative)
        return functional.positive_max_log_odds(rows, positive, negative, self.temperature).float()


@final
class LocalPromptScore(AbstractLocalScore):
    """Local-Prompt's score: MCM plus the mean of the largest probabilities of regions (arXiv 2409.04796), in (0, 2).

    The map has the log-odds of the largest probability of a class in each region.

    Args:
        temperature: divides the cosine; the paper has cosines as they are.
        top_k: probabilities, over regions and classes, that are averaged.
    """

    needs: frozenset[Output] = frozenset({"embedding", "patches"})
    positive_: Tensor | None = None
    local_: Tensor | None = None
    local_negative_: Tensor | None = None

    def __init__(self, temperature: float = 1.0, top_k: int = 10) -> None:
        super().__init__()
        check_number("LocalPromptScore.temperature", temperature, above=0)
        check_count("LocalPromptScore.top_k", top_k)
        self.temperature = temperature
        self.top_k = top_k

    def requirements(self, around: Surroundings) -> Iterable[Requirement]:
        """Return the text encoder and the learned prompts."""
        return _requirements(self, around, "local")

    def fit(self, reference: Reference) -> Self:
        """Encode the prompts of images, of regions, and the negative ones."""
        learned = _learned(self, reference.learned, "local")
        encoder, names = reference.encoder, reference.class_names
        self.positive_ = reference.prototypes
        self.local_, self.local_negative_ = (learned.of(role, encoder, names) for role in _LOCAL)
        return self

    def patch_scores(self, embedded: Embedded) -> Float[Tensor, "batch patches"]:
        """Return the log-odds of max_c p_rc of each region r."""
        learned = (fitted(self, one) for one in (self.local_, self.local_negative_))
        patches, local, negative = _precise(embedded.local(), *learned)
        return functional.positive_max_log_odds(patches, local, negative, self.temperature).float()

    def forward(self, embedded: Embedded) -> Scores:
        """Return the score."""
        return self._score(embedded).float()

    def objective(self, embedded: Embedded) -> Scores:
        """Return the log-odds of the score between its bounds, 0 and 2."""
        return (self._score(embedded) / 2).logit().float()

    def _score(self, embedded: Embedded) -> Scores:
        """Return the score in float64."""
        learned = (fitted(self, one) for one in (self.positive_, self.local_, self.local_negative_))
        rows, patches, positive, local, negative = _precise(embedded.joint(), embedded.local(), *learned)
        return functional.local_prompt(rows, patches, positive, local, negative, self.temperature, self.top_k)


@final
class GMP(AbstractScore):
    """SUPREME's generalised multi-modal prototypes (arXiv 2502.00662, second-hand), as log-odds.

    The mean of four maximal softmax probabilities, see `functional_learned.multi_modal_log_odds`.

    Args:
        temperature: divides the cosine; whether the paper has 1 or 0.01 is not known.
    """

    needs: frozenset[Output] = frozenset({"embedding"})
    texts_: Tensor | None = None
    images_: Tensor | None = None
    image_to_text_: Tensor | None = None

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__()
        check_number("GMP.temperature", temperature, above=0)
        self.temperature = temperature

    def requirements(self, around: Surroundings) -> Iterable[Requirement]:
        """Return the text encoder and the learned prompts."""
        return _requirements(self, around, None)

    def fit(self, reference: Reference) -> Self:
        """Encode the class prompts, and take image prototypes and map."""
        learned = _learned(self, reference.learned, None)
        learned.check_names(reference.class_names)
        self.texts_ = reference.prototypes
        self.images_, self.image_to_text_ = (
            _tensor(self, learned, name, len(rows), self.texts_)
            for name, rows in (("image_prototypes", self.texts_), ("image_to_text", self.texts_.T))
        )
        unseen = int((self.images_.norm(dim=1) < 0.5).sum())
        if unseen:
            raise MmoodError(
                f"GMP compares with the mean images of the few shots, but {unseen} of {len(self.images_)} classes have "
                f"none: {learned.method} learns them when training begins; give the checkpoint of a run."
            )
        return self

    def forward(self, embedded: Embedded) -> Scores:
        """Return log S - log(1 - S)."""
        learned = (fitted(self, one) for one in (self.texts_, self.images_, self.image_to_text_))
        rows, texts, images, image_to_text = _precise(embedded.joint(), *learned)
        return functional.multi_modal_log_odds(rows, texts, images, image_to_text, self.temperature).float()


_LOCAL: tuple[Role, Role] = ("local", "local_negative")


def _requirements(score: AbstractScore, around: Surroundings, role: Role | None) -> Iterable[Requirement]:
    """Return the text encoder, and learned prompts with a family of this role."""
    return (
        around.text_encoder(),
        Requirement("learned prompts", lambda: f"of {_learned(score, around.learned, role).method}"),
    )


def _learned(score: AbstractScore, learned: LearnedPrompts | None, role: Role | None) -> LearnedPrompts:
    """Return the learned prompts, which must have a family of this role."""
    if learned is None:
        raise MmoodError(
            f"{type(score).__name__} needs learned prompts; train them with PromptLearning, or set `model.prompts` of "
            "ZeroShot to learned:FOLDER."
        )
    if role is not None and role not in learned.families:
        raise MmoodError(
            f"{type(score).__name__} needs {role.replace('_', ' ')} prompts, but {learned.method} has learned none; "
            f"choose another score, or the prompts of another method."
        )
    return learned


def _tensor(score: AbstractScore, learned: LearnedPrompts, name: str, rows: int, like: Tensor) -> Tensor:
    """Return a (rows, D) tensor that the method has learned."""
    found, wanted = learned.tensors.get(name), (rows, like.shape[1])
    if found is None or tuple(found.shape) != wanted:
        shape = "none" if found is None else f"one of shape {tuple(found.shape)}"
        raise MmoodError(
            f"{type(score).__name__} needs {name.replace('_', ' ')} of shape {wanted}, but these prompts of "
            f"{learned.method} have {shape}; give it those that SUPREME has learned for these classes."
        )
    return found.to(like)


def _precise(*rows: Tensor) -> tuple[Tensor, ...]:
    """Return embeddings in full precision on the device of the first: at temperature 1 the fourth digit counts."""
    return tuple(precise(one.to(rows[0].device)) for one in rows)
