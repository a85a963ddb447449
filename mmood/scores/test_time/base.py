"""The contract of a stream score: it learns from the unlabelled test images that it scores, in their order."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Literal

from jaxtyping import Float, Int
from torch import Tensor

from mmood.scores.base import AbstractScore, Embedded

Update = Literal["before", "after"]


class AbstractStreamScore(AbstractScore):
    """A score with a memory of the stream: test-time adaptive, so its numbers depend on what came before.

    Life: `fit` (once an evaluation), then for every stream `reset` and a `step` for each batch in order. `forward`
    scores with the memory as it is and learns nothing. The memory is a set of tensors on the device of the embeddings;
    it never sees a label. All randomness is private, from generators that `reset` seeds.

    Args:
        update: learn from a batch `before` it is scored (transductive within the batch) or `after`.
    """

    def __init__(self, update: Update = "before") -> None:
        super().__init__()
        self.update = update

    @abstractmethod
    def reset(self, seed: int = 0) -> None:
        """Forget the stream and seed the private generators."""

    @abstractmethod
    def step(self, embedded: Embedded) -> Float[Tensor, " batch"]:
        """Return the scores of the next batch, float32, higher = more in-distribution, and learn from it."""

    @abstractmethod
    def state(self) -> dict[str, Tensor]:
        """Return the memory, generators included, as tensors: what another process needs to go on with the stream."""

    @abstractmethod
    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take back what `state` returned.

        Raises:
            MmoodError: names or shapes are not those of this score.
        """

    @abstractmethod
    def counts(self) -> dict[str, int]:
        """Return how many images passed each gate since `reset`, and how full the memory is."""

    @abstractmethod
    def members(self) -> dict[Literal["id", "ood"], Int[Tensor, " kept"]]:
        """Return which images the memory takes for ID and for OoD: their places in the stream, from 0.

        Places count the images since `reset`. Who knows the labels afterwards computes the purity of the memory.
        """
