"""The memory of a stream score: on the device of the images, and taken back from another process."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from mmood.errors import MmoodError
from mmood.scores.base import Embedded
from mmood.scores.test_time.base import AbstractStreamScore


def fitted(score: AbstractStreamScore, texts: Tensor) -> Tensor:
    """Return the texts that a score learned in `fit`; MmoodError if it has none yet."""
    if not len(texts):
        name = type(score).__name__
        raise MmoodError(f"{name} has learned nothing yet; call {name}.fit(reference) before it scores images.")
    return texts


def received(
    score: AbstractStreamScore, embedded: Embedded, texts: Tensor, move: Callable[[torch.device], None]
) -> Float[Tensor, "batch dim"]:
    """Return the embeddings of a batch, after taking texts and memory of the score to their device.

    Args:
        score: that receives the batch.
        embedded: the batch.
        texts: what the score learned, to see where it lies.
        move: takes that to a device; the memory may be forgotten meanwhile.

    Raises:
        MmoodError: the encoder knows no texts.
    """
    if embedded.embedding is None:
        raise MmoodError(f"{type(score).__name__} needs a vision-language model; this encoder knows no text.")
    if texts.device != embedded.embedding.device:
        state = score.state()
        move(embedded.embedding.device)
        score.reset()
        score.load_state(state)
    return embedded.embedding


def checked_state(
    owner: str,
    own: Mapping[str, Tensor],
    given: Mapping[str, Tensor],
    exact: Sequence[str] = (),
    together: Sequence[str] = (),
) -> dict[str, Tensor]:
    """Return copies of `given` on the devices of `own`, whose names, types and shapes but for the rows they must have.

    Args:
        owner: how the message calls the score.
        own: the state as it is now; the first dimension of each tensor may have another length.
        given: the state to take.
        exact: tensors whose length must be the same too.
        together: tensors that have one row for each of the same things.

    Raises:
        MmoodError: names, types or shapes differ.

    >>> import torch
    >>> checked_state("Score", {"bank": torch.zeros(0, 2)}, {"bank": torch.ones(1, 2)})
    {'bank': tensor([[1., 1.]])}
    """
    if own.keys() != given.keys():
        raise MmoodError(
            f"A state of {owner} holds {', '.join(sorted(own))}; "
            f"the one given holds {', '.join(sorted(given)) or 'nothing'}."
        )
    for name, tensor in own.items():
        found = given[name]
        first = 0 if name in exact else 1
        if (found.dtype, found.dim(), found.shape[first:]) != (tensor.dtype, tensor.dim(), tensor.shape[first:]):
            raise MmoodError(
                f"The state's {name!r} is {found.dtype} of shape {tuple(found.shape)}, but this {owner} holds "
                f"{tensor.dtype} of shape {tuple(tensor.shape)}; use the settings and encoder it was made with."
            )
    if len({len(given[name]) for name in together}) > 1:
        lengths = ", ".join(f"{name} {len(given[name])}" for name in together)
        raise MmoodError(f"The state of {owner} is torn: its rows belong together, but there are {lengths}.")
    return {name: given[name].detach().to(tensor.device, copy=True) for name, tensor in own.items()}
