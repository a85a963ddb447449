"""Scores against negative labels: NegLabel, CSP, EOE."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Self

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from mmood.classes.matching import folded
from mmood.encoders.prompts import check_templates
from mmood.errors import MmoodError
from mmood.scores import functional_negatives as functional
from mmood.scores.bank import fitted
from mmood.scores.base import AbstractScore, Embedded, NegativeTexts, Output, Reference
from mmood.scores.stable import precise
from mmood.scores.surroundings import Surroundings
from mmood.settings import check_count, check_number
from mmood.settings.requirements import Requirement
from mmood.words.corpus import check_corpus
from mmood.words.embedding import embed_words
from mmood.words.lists import NegativeList, load_negatives
from mmood.words.miner import CSP as CSP_MINING
from mmood.words.miner import NEGLABEL as NEGLABEL_MINING
from mmood.words.miner import NegativeMiner
from mmood.words.mining import criterion_of, mine_negatives
from mmood.words.shipped import is_shipped
from mmood.words.templates import Templates

Scores = Float[Tensor, " batch"]


class NegativePrototypes:
    """ID and negative text embeddings with one list behind them: what every negative-label score stands on.

    The list is read or mined at the first `fit` and kept; each `fit` encodes it, and the ID names in the list's own
    prompts, with the encoder of that moment. So a text tower that trains keeps the list of its pre-trained weights, as
    CMA (arXiv 2503.18817) does. The embeddings are plain attributes, not buffers: DDP shall not send them around.

    Attributes:
        list_: the negative labels.
        positive_: (C, D) of the ID names.
        negative_: (M, D) in the order of the groups; M is the largest multiple of `groups` in the list.
        words_: the M words in that order.
    """

    def __init__(self, negatives: str | None, mining: NegativeMiner, groups: int, seed: int | None) -> None:
        check_count("groups", groups)
        check_count("seed", seed, least=0, null="the run's")
        if negatives is None and mining.count is not None and mining.count < groups:
            raise MmoodError(
                f"groups is {groups}, but mining.count keeps only {mining.count} negative labels; lower `groups`, or "
                "raise `mining.count`."
            )
        self.negatives = negatives
        self.mining = mining
        self.groups = groups
        self.seed = seed or 0
        self.list_: NegativeList | None = None
        self.positive_ = torch.empty(0)
        self.negative_ = torch.empty(0)
        self.words_: tuple[str, ...] = ()

    def fit(self, reference: Reference) -> None:
        """Get the list, if there is none yet, and encode it.

        Raises:
            MmoodError: the list cannot be read or mined, or has fewer words than there are groups.
        """
        self.positive_, negative = self.encode(reference)
        self.negative_ = self.in_groups(negative)
        assert self.list_ is not None  # `encode` got one
        order = self.in_groups(torch.arange(len(negative)))
        words = self.list_.words
        self.words_ = tuple(words[number] for number in order.tolist())

    def in_groups(self, rows: Shaped[Tensor, "negatives ..."], groups: int | None = None) -> Shaped[Tensor, "kept ..."]:
        """Return rows of negatives group by group, without the rest that fills no group (see `group_order`).

        Args:
            rows: one for each negative.
            groups: how many; None for G.
        """
        order = functional.group_order(len(rows), self.groups if groups is None else groups, self.seed)
        return rows[order.to(rows.device)]

    def texts(self) -> NegativeTexts:
        """Return what `fit` has encoded."""
        return NegativeTexts(self.positive_, self.negative_, self.words_, self.groups)

    def encode(
        self, reference: Reference, proxies: Float[Tensor, "classes dim"] | None = None
    ) -> tuple[Float[Tensor, "classes dim"], Float[Tensor, "negatives dim"]]:
        """Return the embeddings of the ID names and of all words in the list's order; get the list if there is none.

        Args:
            reference: the ID side.
            proxies: mean image embedding of each class, for mining with the criterion `inter_modal`.

        Raises:
            MmoodError: the list cannot be read or mined, or has fewer words than there are groups.
        """
        if self.list_ is None:
            self.list_ = self._get(reference, proxies)
        if len(self.list_) < self.groups:
            raise MmoodError(f"groups is {self.groups}, but the list has only {len(self.list_)} negative labels.")
        if reference.learned is None:
            positive = self.list_.embed_id_names(reference.encode_text, reference.class_names)
        else:
            positive = reference.prototypes
        return positive, encoded(self.list_, reference)

    def details(self) -> dict[str, object]:
        """Return, after `fit`, what the list is: its hash, its length and its prompts."""
        if self.list_ is None:
            return {}
        return {
            "negatives_sha256": self.list_.content_hash,
            "negatives_found": len(self.list_),
            "id_templates": list(self.list_.id_templates),
            "templates": {part.kind: list(part.templates) for part in self.list_.parts},
            "mined_with": dict(self.list_.mined_with),
        }

    def learned(self) -> dict[str, object]:
        """Return the list as plain data; nothing before the first `fit`."""
        return {} if self.list_ is None else {"negatives": self.list_.to_document()}

    def restore(self, learned: Mapping[str, object]) -> None:
        """Take the list back, unless the settings now ask for another one."""
        if "negatives" not in learned:
            return
        kept = NegativeList.from_document(learned["negatives"], "the list in the checkpoint")
        given = self.negatives is not None and (is_shipped(self.negatives) or Path(self.negatives).exists())
        wanted = criterion_of(self.mining)
        found = kept.mined_with.get("criterion", wanted)
        if isinstance(found, Mapping):
            # What it was mined from, not a setting: images have other embeddings once a tower has trained.
            found = {name: value for name, value in found.items() if name != "proxies_sha256"}
        if not given and found == wanted:
            self.list_ = kept

    def requirement(self) -> Requirement:
        """Return the list, or the words that it is mined from."""
        return Requirement("negative labels", self._found)

    def _found(self) -> str:
        if self.list_ is not None:
            return f"{len(self.list_)} negative labels, already mined"
        if self.negatives is not None:
            return f"{len(load_negatives(self.negatives, self.mining.templates))} negative labels in {self.negatives}"
        return f"to be mined from {check_corpus(self.mining.corpus)}"

    def _get(self, reference: Reference, proxies: Tensor | None) -> NegativeList:
        if self.negatives is not None:
            return load_negatives(self.negatives, self.mining.templates)
        return mine_negatives(self.mining, reference, proxies)


class AbstractMinedNegatives(AbstractScore):
    """What NegLabel and CSP share: all but how their lists are mined."""

    needs: frozenset[Output] = frozenset({"embedding"})
    texts_: NegativeTexts | None = None

    def __init__(
        self, groups: int, temperature: float, negatives: str | None, mining: NegativeMiner, seed: int | None
    ) -> None:
        super().__init__()
        check_number(f"{type(self).__name__}.temperature", temperature, above=0)
        self.temperature = temperature
        self.prototypes = NegativePrototypes(negatives, mining, groups, seed)

    def requirements(self, around: Surroundings) -> Iterable[Requirement]:
        """Return the text encoder, and the list or the words that it is mined from."""
        return (around.text_encoder(), self.prototypes.requirement())

    def fit(self, reference: Reference) -> Self:
        """Read or mine the negatives at the first call; encode them and the ID names at every call."""
        self.prototypes.fit(reference)
        self.texts_ = self.prototypes.texts()
        return self

    def forward(self, embedded: Embedded) -> Scores:
        """Return log S - log(1 - S)."""
        embedding = embedded.joint()
        texts = self.texts_ = fitted(self, self.texts_).to(embedding.device)
        return functional.neglabel_log_odds(embedding, texts.positive, texts.negative, self.temperature, texts.groups)

    def objective(self, embedded: Embedded) -> Scores:
        """Return the mean over the groups of log P - log N_g."""
        embedding = embedded.joint()
        texts = self.texts_ = fitted(self, self.texts_).to(embedding.device)
        return functional.mean_group_margin(embedding, texts.positive, texts.negative, self.temperature, texts.groups)

    def negative_labels(self) -> NegativeTexts | None:
        """Return the negative labels and their embeddings."""
        return self.texts_

    def learned(self) -> dict[str, object]:
        """Return the list, which was mined with the weights of the first `fit`."""
        return self.prototypes.learned()

    def restore(self, learned: Mapping[str, object]) -> None:
        """Take the list back."""
        self.prototypes.restore(learned)

    def details(self) -> dict[str, object]:
        """Return, after `fit`, what the list is, and how many of its words fill the groups."""
        words = self.prototypes.details()
        return {**words, "negatives_used": len(self.prototypes.negative_)} if words else {}


class NegLabel(AbstractMinedNegatives):
    """NegLabel: the softmax mass of the ID names among mined negative labels (arXiv 2403.20078), as log-odds.

    S = mean_g sigmoid(LSE_c(cos / T) - LSE_{m in g}(cos / T)); the score is log S - log(1 - S), which orders images as
    S does but never ties at 0 or 1. `functional_negatives.neglabel` gives S.

    Warning:
        The list must not hold an ID class under another name. Never choose words by looking at the OoD test images.

    Args:
        groups: G, number of groups the negatives are split into; the paper's code uses 100, CMA 1.
        temperature: T, divides the cosine.
        negatives: file with the list to use (see `load_negatives`); None to mine one.
        mining: how to mine; its templates are also the prompts of a plain-text list.
        seed: of the private generator that puts negatives into groups; None for that of the run.
    """

    def __init__(
        self,
        groups: int = 100,
        temperature: float = 0.01,
        negatives: str | None = None,
        mining: NegativeMiner = NEGLABEL_MINING,
        seed: int | None = None,
    ) -> None:
        super().__init__(groups, temperature, negatives, mining, seed)


class CSP(AbstractMinedNegatives):
    """CSP: NegLabel's score on the conjugated semantic pool (arXiv 2410.08611), as log-odds.

    The pool has phrases of adjective and superclass ("blue landscape") in place of adjectives and averages several
    prompts per word; the mathematics is that of `NegLabel`.

    Warning:
        Each adjective gets one superclass at random, so another seed is another list; report several. In the
        released code the list also depends on the order in which the file system names the corpus files.

    Args:
        groups: G, number of groups the negatives are split into.
        temperature: T, divides the cosine.
        negatives: file with the list to use (see `load_negatives`); None to mine one.
        mining: how to mine.
        seed: of the private generator that puts negatives into groups; None for that of the run.
    """

    def __init__(
        self,
        groups: int = 100,
        temperature: float = 0.01,
        negatives: str | None = None,
        mining: NegativeMiner = CSP_MINING,
        seed: int | None = None,
    ) -> None:
        super().__init__(groups, temperature, negatives, mining, seed)


class EOE(AbstractScore):
    """EOE: max_c p_c - beta max_o p_o, p the softmax over ID and outlier names together (ICML 2024).

    The paper asks a language model for classes that look like the ID classes but are none: 500 far names, or 3 near
    names of each class; `mmood propose` does. MM-OOD (arXiv 2601.14052) asks a model that sees images, and its score is
    not specified; this one is used. The score lies in (-beta, 1) and, at temperature 1, within about 1 / (C + L) of 0.
    (The paper's code has other scores too, and takes max_c p_c unless told otherwise.)

    Warning:
        Near and far names help against different OoD images. Never choose names by looking at the OoD test images.

    Args:
        outliers: the outlier names: a file, or a list that comes with mmood (see `load_negatives`).
        beta: weight of the largest outlier probability.
        temperature: divides the cosine; 1 as in the paper.
        template: prompt of ID and outlier names.
    """

    needs: frozenset[Output] = frozenset({"embedding"})
    texts_: NegativeTexts | None = None

    def __init__(
        self, outliers: str, beta: float = 0.25, temperature: float = 1.0, template: str = "a photo of a {}"
    ) -> None:
        super().__init__()
        check_templates((template,))
        self.outliers = outliers
        check_number("EOE.beta", beta, least=0)
        check_number("EOE.temperature", temperature, above=0)
        self.beta = beta
        self.temperature = temperature
        self.template = template
        self.list_: NegativeList | None = None

    def requirements(self, around: Surroundings) -> Iterable[Requirement]:
        """Return the text encoder and the file of outlier names."""
        return (around.text_encoder(), Requirement("outlier names", self._found))

    def _found(self) -> str:
        return f"{len(load_negatives(self.outliers, self._templates()))} names in {self.outliers}"

    def _templates(self) -> Templates:
        prompts = (self.template,)
        return Templates(id=prompts, noun=prompts, adjective=prompts)

    def fit(self, reference: Reference) -> EOE:
        """Read the outlier names; encode them and the ID names.

        Raises:
            MmoodError: the names cannot be read, or an ID class is among them.
        """
        prompts = (self.template,)
        self.list_ = load_negatives(self.outliers, self._templates())
        self._check_names(reference.class_names)
        if reference.learned is None:
            positive = embed_words(reference.encode_text, reference.class_names, prompts)
        else:
            positive = reference.prototypes
        self.texts_ = NegativeTexts(positive, encoded(self.list_, reference), self.list_.words)
        return self

    def forward(self, embedded: Embedded) -> Scores:
        """Return max_c p_c - beta max_o p_o."""
        return functional.eoe(*self._cosines(embedded), self.beta, self.temperature).float()

    def objective(self, embedded: Embedded) -> Scores:
        """Return the log-odds of the score between its bounds."""
        return functional.eoe_log_odds(*self._cosines(embedded), self.beta, self.temperature).float()

    def _cosines(self, embedded: Embedded) -> tuple[Tensor, Tensor]:
        """Return the cosines with the ID names and with the outliers."""
        embedding = embedded.joint()
        texts = self.texts_ = fitted(self, self.texts_).to(embedding.device)
        # At temperature 1 probabilities differ in the fourth digit: float64 until the end.
        return precise(embedding @ texts.positive.T), precise(embedding @ texts.negative.T)

    def _check_names(self, class_names: Sequence[str]) -> None:
        """Raise MmoodError if an outlier is an ID class: its images would be taken for OoD."""
        assert self.list_ is not None
        known = {folded(name): name for name in class_names}
        shared = [known[folded(word)] for word in self.list_.words if folded(word) in known]
        if shared:
            raise MmoodError(
                f"EOE.outliers is '{self.outliers}', which has {len(shared)} ID classes among its names, such as "
                f"'{shared[0]}'; outliers are no ID classes. `mmood propose` proposes names for these classes."
            )

    def negative_labels(self) -> NegativeTexts | None:
        """Return the outlier names and their embeddings."""
        return self.texts_

    def details(self) -> dict[str, object]:
        """Return, after `fit`, the hash and number of the outlier names, and where they come from."""
        if self.list_ is None:
            return {}
        return {
            "outliers_sha256": self.list_.content_hash,
            "outliers_found": len(self.list_),
            "outliers_method": self.list_.mined_with.get("method"),
            "outliers_from": dict(self.list_.mined_with),
        }


def encoded(negatives: NegativeList, reference: Reference) -> Float[Tensor, "negatives dim"]:
    """Return the unit-norm embeddings of a list in its own prompts, or in the learned context that is for words."""
    parts = [part for part in negatives.parts if part.words]
    return torch.cat([reference.encode_words(one.words, one.templates, negatives.normalise_first) for one in parts])
