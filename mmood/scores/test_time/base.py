"""The contract of a stream score: it learns from the unlabelled test images that it scores, in their order."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, Self, TypeAlias, TypeVar, final, get_args, get_origin

import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor

from mmood.errors import MmoodError
from mmood.scores.base import AbstractScore, Embedded, Reference
from mmood.scores.test_time.memory import checked, device_of, moved, saved_tensors

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Fitted = TypeVar("Fitted", bound="DataclassInstance")
Memory = TypeVar("Memory", bound="DataclassInstance")
Update = Literal["before", "after"]
Kept = dict[Literal["id", "ood"], Int[Tensor, " kept"]]

ROWS = 1024
"""Images that `forward` scores at a time."""


class KeptByCheckpoints(Protocol):
    """What a score has learned once, with the weights of the first `fit`."""

    def learned(self) -> dict[str, object]:
        """Return it as plain data; nothing before the first `fit`."""

    def restore(self, learned: Mapping[str, object]) -> None:
        """Take it back."""


class AbstractStreamScore(AbstractScore, Generic[Fitted, Memory]):
    """A score with a memory of the stream: test-time adaptive, so its numbers depend on what came before.

    A subclass says in pure functions what it learns from the ID side (`learn` -> Fitted), with which memory a stream
    begins (`start` -> Memory) and what a batch changes (`advance`: Fitted, Memory, batch -> scores, Memory). Fitted and
    Memory are frozen dataclasses of tensors, annotated with type and shape; nothing else is remembered, and a memory
    can be gone on from any number of times. Large tables of a memory are `Rows`, which no step copies.

    What follows stands here once: `fit`, then for every stream `reset` and a `step` for each batch in order; `forward`,
    which scores with the memory as it is; saving and restoring, where the annotations are the schema; and moving to
    the device of the images. No label is ever seen. All randomness is private: the state of a generator is a tensor of
    the memory.

    Args:
        update: learn from a batch `before` it is scored (transductive within the batch) or `after`.
        kept: what a checkpoint keeps of the score, such as negative labels; None for nothing.
    """

    differentiable = False

    def __init__(self, update: Update = "before", kept: KeptByCheckpoints | None = None) -> None:
        super().__init__()
        self._kept = kept
        self.update = update
        self.fitted_: Fitted | None = None
        self.memory_: Memory | None = None

    @abstractmethod
    def learn(self, reference: Reference) -> Fitted:
        """Return what the score learns of the ID side."""

    @abstractmethod
    def start(self, fitted: Fitted, seed: int) -> Memory:
        """Return the memory before the first image; `seed` is that of the private generators."""

    @abstractmethod
    def resume(self, fitted: Fitted, saved: dict[str, Tensor]) -> Memory:
        """Return the memory of saved tensors, whose names, types and shapes were checked, with what derives from them.

        Raises:
            MmoodError: their values cannot be those of a memory.
        """

    @abstractmethod
    def score(self, fitted: Fitted, memory: Memory, embedding: Float[Tensor, "batch dim"]) -> Float[Tensor, " batch"]:
        """Return the scores of images with a memory as it is, float32, higher = more in-distribution."""

    @abstractmethod
    def advance(self, fitted: Fitted, memory: Memory, batch: Embedded) -> tuple[Float[Tensor, " batch"], Memory]:
        """Return the scores of the next batch and the memory behind it; the one given stays as it is."""

    @abstractmethod
    def count(self, fitted: Fitted, memory: Memory) -> dict[str, int]:
        """Return how many images were seen and passed each gate, and how full the memory is."""

    @abstractmethod
    def kept(self, fitted: Fitted, memory: Memory) -> Kept:
        """Return which images a memory takes for ID and for OoD: their positions in the stream, from 0."""

    @final
    def fit(self, reference: Reference) -> Self:
        """Learn the ID side and forget the stream. Returns self."""
        # Tensors made in inference mode could not be differentiated or written to outside of it.
        with torch.inference_mode(False), torch.no_grad():
            self.fitted_ = self.learn(reference)
        self.reset()
        return self

    @final
    def reset(self, seed: int = 0) -> None:
        """Forget the stream and seed the private generators."""
        with torch.inference_mode(False), torch.no_grad():
            self.memory_ = self.start(self._fitted(), seed)

    @final
    def learned(self) -> dict[str, object]:
        """Return what a checkpoint must keep: a later `fit` would learn it with other weights."""
        return {} if self._kept is None else self._kept.learned()

    @final
    def restore(self, learned: Mapping[str, object]) -> None:
        """Take back what `learned` returned."""
        if self._kept is not None:
            self._kept.restore(learned)

    def forward(self, embedded: Embedded) -> Float[Tensor, " batch"]:
        """Return the scores with the memory as it is, float32, higher = more in-distribution."""
        embedding = self._received(embedded)
        with torch.inference_mode(False), torch.no_grad():
            chunks = torch.split(embedding, ROWS)
            return torch.cat([self.score(self._fitted(), self._memory(), rows) for rows in chunks])

    @final
    def step(self, embedded: Embedded) -> Float[Tensor, " batch"]:
        """Return the scores of the next batch, float32, higher = more in-distribution, and learn from it.

        Raises:
            MmoodError: an embedding is not finite; nothing was learned then.
        """
        embedding = self._received(embedded)
        finite = embedding.isfinite().all(dim=-1)
        if not finite.all():
            raise MmoodError(
                f"Image {int(finite.int().argmin())} of the batch (from 0) has a NaN or an infinite value in its "
                f"embedding; {type(self).__name__} cannot learn from such an image."
            )
        with torch.inference_mode(False), torch.no_grad():
            scores, self.memory_ = self.advance(self._fitted(), self._memory(), embedded)
        return scores

    @final
    def state(self) -> dict[str, Tensor]:
        """Return the memory, generators included, as tensors: which another process needs to continue the stream."""
        return saved_tensors(self._memory())

    @final
    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take back what `state` returned.

        Raises:
            MmoodError: names, types, shapes or values are not those of this score; the memory is as it was then.
        """
        fitted, memory = self._fitted(), self._memory()
        with torch.inference_mode(False), torch.no_grad():
            taken = checked(type(self).__name__, type(memory), fitted, state)
            device = device_of(fitted)
            self.memory_ = self.resume(fitted, {name: tensor.to(device) for name, tensor in taken.items()})

    @final
    def counts(self) -> dict[str, int]:
        """Return how many images passed each gate since `reset`, and how full the memory is."""
        return self.count(self._fitted(), self._memory())

    @final
    def members(self) -> Kept:
        """Return which images the memory takes for ID and for OoD: their positions in the stream, from 0.

        Positions count the images since `reset`. Who knows the labels afterwards computes the purity of the memory.
        """
        return self.kept(self._fitted(), self._memory())

    def _received(self, embedded: Embedded) -> Float[Tensor, "batch dim"]:
        """Return the embeddings of a batch, after taking what was learned to their device."""
        fitted, memory, embedding = self._fitted(), self._memory(), embedded.embedding
        if embedding is None:
            raise MmoodError(
                f"{type(self).__name__} needs a vision-language model, but this encoder has no text encoder."
            )
        if embedding.device != device_of(fitted):
            with torch.inference_mode(False), torch.no_grad():
                self.fitted_ = moved(fitted, embedding.device)
                saved = {name: tensor.to(embedding.device) for name, tensor in saved_tensors(memory).items()}
                self.memory_ = self.resume(self.fitted_, saved)
        return embedding

    def _fitted(self) -> Fitted:
        if self.fitted_ is None:
            name = type(self).__name__
            raise MmoodError(f"{name} is not fitted yet; call {name}.fit(reference) before scoring images.")
        return self.fitted_

    def _memory(self) -> Memory:
        self._fitted()
        assert self.memory_ is not None
        return self.memory_


def gate_counts(counts: Int64[Tensor, " counts"], kept: Kept, held: str) -> dict[str, int]:
    """Return how many images were seen, passed either gate, and are held.

    Args:
        counts: the first three are images seen, passed by the ID gate, passed by the OoD gate.
        kept: positions of the images that the memory holds.
        held: how the result calls those of a side: `held_id`, `held_ood`.
    """
    seen, gated_id, gated_ood = counts[:3].tolist()
    sides = {f"{held}_{side}": len(places) for side, places in kept.items()}
    return {"seen": seen, "gated_id": gated_id, "gated_ood": gated_ood, **sides}


def fitted_type(kind: type[AnyStreamScore]) -> type:
    """Return the dataclass of what a stream score learns of the ID side."""
    bases: tuple[Any, ...] = vars(kind)["__orig_bases__"]
    found: type
    (found,) = (get_args(base)[0] for base in bases if get_origin(base) is AbstractStreamScore)
    return found


AnyStreamScore: TypeAlias = AbstractStreamScore[Any, Any]
"""A stream score, whatever it remembers."""
