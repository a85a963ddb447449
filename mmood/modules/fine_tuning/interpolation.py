"""WiSE-FT: weights between the pre-trained and the fine-tuned ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mmood.errors import MmoodError
from mmood.settings import check_number


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


def interpolation_weights(setting: float | Sequence[float] | None) -> tuple[float, ...]:
    """Return the values of α that a setting names, each from 0 (pre-trained) to 1 (the checkpoint's weights).

    Raises:
        MmoodError: a list is empty, a value comes twice, or one is outside [0, 1].

    >>> interpolation_weights(0.5), interpolation_weights([0, 1]), interpolation_weights(None)
    ((0.5,), (0, 1), ())
    """
    if setting is None:
        return ()
    alphas = tuple(setting) if isinstance(setting, Sequence) else (setting,)
    for alpha in alphas:
        _check(alpha)
    if not alphas or len(set(alphas)) < len(alphas):
        raise MmoodError(f"`model.weight_interpolation` is {list(alphas)}; give different numbers in [0, 1].")
    return alphas


def _check(alpha: float) -> None:
    check_number("`model.weight_interpolation` (0 is pre-trained)", alpha, least=0, most=1)
