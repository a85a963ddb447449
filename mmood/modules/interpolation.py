"""WiSE-FT: weights between the pre-trained and the fine-tuned ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mmood.errors import MmoodError


def interpolate(pretrained: Mapping[str, Tensor], tuned: Mapping[str, Tensor], alpha: float) -> dict[str, Tensor]:
    """Return `(1 - α) pretrained + α tuned` for every tensor of floats, and the tuned one of every other.

    Weights between both keep more of the pre-trained model's robustness (Wortsman et al., arXiv 2109.01903). The logit
    scale is interpolated before its exponential, as it is stored.

    >>> interpolate({"w": torch.tensor([0.0])}, {"w": torch.tensor([4.0])}, 0.25)
    {'w': tensor([1.])}

    Args:
        pretrained: the state dict at α = 0.
        tuned: the state dict at α = 1, with the same names and shapes.
        alpha: α, in [0, 1].

    Raises:
        MmoodError: α is outside [0, 1], or names or shapes differ.
    """
    _check(alpha)
    shapes = [{name: tensor.shape for name, tensor in state.items()} for state in (pretrained, tuned)]
    if shapes[0] != shapes[1]:
        different = sorted({name for name, _ in shapes[0].items() ^ shapes[1].items()})
        raise MmoodError(f"Weights can only be interpolated within one architecture; {different[:4]} differ.")
    return {
        name: torch.lerp(pretrained[name].to(tensor), tensor, alpha) if tensor.is_floating_point() else tensor
        for name, tensor in tuned.items()
    }


class WeightInterpolation:
    """The weights that a run evaluates one after the other, each between the pre-trained and a checkpoint's.

    Args:
        alphas: from 0 (pre-trained) to 1 (the checkpoint's weights), in the order of the evaluations.

    Attributes:
        number: which of them is evaluated now.

    Raises:
        MmoodError: there is none, one comes twice, or one is outside [0, 1].
    """

    def __init__(self, alphas: Sequence[float]) -> None:
        for alpha in alphas:
            _check(alpha)
        if not alphas or len(set(alphas)) < len(alphas):
            raise MmoodError(f"`model.weight_interpolation` is {list(alphas)}; give different numbers in [0, 1].")
        self.alphas = tuple(alphas)
        self.number = 0
        self._pretrained: dict[str, Tensor] | None = None

    @property
    def loaded(self) -> bool:
        """Whether a checkpoint was met, so that there is something to interpolate to."""
        return self._pretrained is not None

    @property
    def variant(self) -> str | None:
        """How results call the weights that are evaluated now; None if there is only one alpha."""
        return f"wise-ft {self.alphas[self.number]:g}" if len(self.alphas) > 1 else None

    @property
    def last(self) -> bool:
        """Whether no other weights are evaluated after these."""
        return self.number == len(self.alphas) - 1

    def between(self, current: Mapping[str, Tensor], tuned: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the weights to load in place of a checkpoint's; `current` of the first call are the pre-trained."""
        if self._pretrained is None:
            self._pretrained = {name: tensor.detach().cpu().clone() for name, tensor in current.items()}
        return interpolate(self._pretrained, tuned, self.alphas[self.number])


def _check(alpha: float) -> None:
    if not 0 <= alpha <= 1:
        raise MmoodError(f"`model.weight_interpolation` is {alpha}; it must be in [0, 1] (0 is pre-trained).")
