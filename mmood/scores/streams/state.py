"""The memory of a stream score, taken back from another process."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from mmood.errors import MmoodError


def checked_state(owner: str, own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return copies of `given` on the devices of `own`, whose names, types and shapes but for the rows they must have.

    Args:
        owner: how the message calls the score.
        own: the state as it is now; the first dimension of each tensor may have another length.
        given: the state to take.

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
        if (found.dtype, found.dim(), found.shape[1:]) != (tensor.dtype, tensor.dim(), tensor.shape[1:]):
            raise MmoodError(
                f"The state's {name!r} is {found.dtype} of shape {tuple(found.shape)}, but this {owner} holds "
                f"{tensor.dtype} of shape {tuple(tensor.shape)}; use the settings and encoder it was made with."
            )
    return {name: given[name].detach().to(tensor.device, copy=True) for name, tensor in own.items()}
