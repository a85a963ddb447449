"""The classes of dense scores: a score of every pixel, higher = more in-distribution."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Self, final

from jaxtyping import Float
from torch import Tensor, nn

from mmood.dense.functional import (
    Logits,
    Map,
    Moments,
    energy,
    entropy,
    max_logit,
    max_softmax,
    standardised_max_logit,
)
from mmood.errors import MmoodError
from mmood.scores.base import AbstractScore, Embedded, Reference
from mmood.settings import Recorded, check_number


@dataclass(frozen=True)
class DenseOutputs:
    """What a module makes of a batch of images, in float32.

    Attributes:
        logits: (B, C, h, w) of the ID classes, at the resolution of the images or below.
        failure: (B, h, w) logit of "the prediction is wrong here"; None for a module without an observer.
        patches: the B h w patches, row by row, as scores of images read them; None for a module without texts.
        whole: the B images likewise.
    """

    logits: Logits
    failure: Map | None = None
    patches: Embedded | None = None
    whole: Embedded | None = None


@dataclass(frozen=True)
class DenseReference:
    """What a dense score may know when it is fitted.

    Attributes:
        moments: passes over the training images once for all scores and returns count, sum and sum of squares of the
            largest logit of each predicted class.
        texts: what scores of images may know; None for a module without texts.
    """

    moments: Callable[[], Moments]
    texts: Reference | None = None


class AbstractDenseScore(Recorded, nn.Module, ABC):
    """A score of pixels, higher = more in-distribution.

    A subclass stores its settings in `__init__` and maps `DenseOutputs` to (B, H, W) in `forward`; what it learns of
    the training pixels it learns in `fit`.
    """

    needs_failure: bool = False
    """Whether `forward` reads what an observer says."""

    log_odds: bool = False
    """Whether the score is the log-odds of being right, so that it has a calibration error."""

    def fit(self, reference: DenseReference) -> Self:
        """Learn what the score needs; called at the start of every evaluation. Returns self."""
        return self

    @final
    def learned(self) -> dict[str, Tensor]:
        """Return what `fit` has learned: the tensors under names that end in `_`."""
        return {name: value for name, value in vars(self).items() if name.endswith("_") and isinstance(value, Tensor)}

    @final
    def restored(self, learned: Mapping[str, Tensor]) -> Self:
        """Take what `learned` returned for a fitted score of these settings. Returns self."""
        for name, value in learned.items():
            setattr(self, name, value)
        return self

    @abstractmethod
    def forward(self, outputs: DenseOutputs) -> Map:
        """Return the (B, h, w) score of every position, float32, higher = more in-distribution."""


@final
class PixelMSP(AbstractDenseScore):
    """The largest softmax probability, as log-odds (arXiv 1610.02136).

    Args:
        temperature: divides the logits.
    """

    log_odds = True

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__()
        check_number("PixelMSP.temperature", temperature, above=0)
        self.temperature = temperature

    def forward(self, outputs: DenseOutputs) -> Map:
        """Return the log-odds of the largest probability."""
        return max_softmax(outputs.logits, self.temperature)


@final
class PixelMaxLogit(AbstractDenseScore):
    """The largest logit (arXiv 1911.11132)."""

    def __init__(self) -> None:
        super().__init__()

    def forward(self, outputs: DenseOutputs) -> Map:
        """Return the largest logit."""
        return max_logit(outputs.logits)


@final
class PixelEnergy(AbstractDenseScore):
    """The negative free energy T logsumexp(logits / T) (arXiv 2010.03759).

    Args:
        temperature: T.
    """

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__()
        check_number("PixelEnergy.temperature", temperature, above=0)
        self.temperature = temperature

    def forward(self, outputs: DenseOutputs) -> Map:
        """Return the negative free energy."""
        return energy(outputs.logits, self.temperature)


@final
class PixelEntropy(AbstractDenseScore):
    """One minus the normalised entropy of the softmax, in [0, 1]."""

    def __init__(self) -> None:
        super().__init__()

    def forward(self, outputs: DenseOutputs) -> Map:
        """Return 1 - H / log C."""
        return entropy(outputs.logits)


@final
class PixelStandardisedMaxLogit(AbstractDenseScore):
    """The largest logit, standardised by mean and deviation of its class over the training pixels (arXiv 2107.11264).

    The paper's boundary suppression and smoothing are not part of it.
    """

    mean_: Float[Tensor, " classes"] | None = None
    std_: Float[Tensor, " classes"] | None = None

    def __init__(self) -> None:
        super().__init__()

    def fit(self, reference: DenseReference) -> Self:
        """Learn mean and deviation of every predicted class."""
        self.mean_, self.std_ = reference.moments().mean_and_std()
        return self

    def forward(self, outputs: DenseOutputs) -> Map:
        """Return the standardised largest logit."""
        if self.mean_ is None or self.std_ is None:
            raise MmoodError("PixelStandardisedMaxLogit is not fitted; call `fit` first.")
        device = outputs.logits.device
        return standardised_max_logit(outputs.logits, self.mean_.to(device), self.std_.to(device))


@final
class ObserverScore(AbstractDenseScore):
    """What the observer says (ObsNet, arXiv 2108.01634): minus the logit of "the segmenter is wrong here"."""

    needs_failure = True
    log_odds = True

    def __init__(self) -> None:
        super().__init__()

    def forward(self, outputs: DenseOutputs) -> Map:
        """Return minus the logit of a failure."""
        assert outputs.failure is not None
        return -outputs.failure


@final
class OfPatches(AbstractDenseScore):
    """A score of images, applied to each patch of a vision-language model as if it were an image; without training.

    With the value path, a patch has a place among the texts (arXiv 2112.01071). That such a score finds OoD pixels is
    no published claim; the adaptation is ours.

    Args:
        score: a score that reads logits or embeddings, such as `MCM` or `NegLabel`.
        global_weight: what the score of the whole image counts beside that of the patch; 1 is the sum of GL-MCM
            (arXiv 2304.04521), for every pixel.
    """

    def __init__(self, score: AbstractScore, global_weight: float = 0.0) -> None:
        super().__init__()
        check_number("OfPatches.global_weight", global_weight, least=0)
        if unknown := score.needs - {"logits", "embedding"}:
            raise MmoodError(
                f"OfPatches.score is {type(score).__name__}, which reads {min(unknown)}; a patch has logits and an "
                "embedding."
            )
        self.score = score
        self.global_weight = global_weight

    def fit(self, reference: DenseReference) -> Self:
        """Let the score learn what it needs of the ID names."""
        if reference.texts is None:
            raise MmoodError("OfPatches needs a vision-language model; `DenseZeroShot` has one.")
        self.score.fit(reference.texts)
        return self

    def forward(self, outputs: DenseOutputs) -> Map:
        """Return the score of every patch."""
        assert outputs.patches is not None
        assert outputs.whole is not None
        batch, _, height, width = outputs.logits.shape
        local: Map = self.score(outputs.patches).view(batch, height, width)
        if not self.global_weight:
            return local
        whole: Tensor = self.score(outputs.whole)
        return local + self.global_weight * whole[:, None, None]


TARGETS = "targets"
"""What the files of maps call the mask beside the scores."""


def checked_scores(scores: dict[str, AbstractDenseScore], observed: bool) -> dict[str, AbstractDenseScore]:
    """Return the scores; MmoodError if one needs an observer that is not there, or cannot be called what it is."""
    for name, score in scores.items():
        if "." in name or name in (TARGETS, "file"):
            raise MmoodError(f"The score '{name}' of `model.scores` cannot be called that; use another name.")
        if score.needs_failure and not observed:
            raise MmoodError(
                f"model.scores.{name} is {type(score).__name__}, which reads an observer; only `Observer` has one."
            )
    return scores
