"""Whether a checkpoint belongs to the module that is to take it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Tensor

from mmood.errors import MmoodError
from mmood.settings import plain


def check_names(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Raise MmoodError unless a checkpoint has the tensors of the module, by their names."""
    if found.keys() == wanted.keys():
        return
    missing, extra = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
    raise MmoodError(
        f"The checkpoint does not fit the model: its state_dict lacks {missing[:4] or 'nothing'} and has the "
        f"unexpected {extra[:4] or 'nothing'}; use the model settings that it was trained with."
    )


def check_shapes(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Raise MmoodError unless the tensors of a checkpoint have the shapes of those of the module."""
    for name, tensor in found.items():
        if tensor.shape != wanted[name].shape:
            raise MmoodError(
                f"The checkpoint does not fit the model: {name} has the shape {tuple(tensor.shape)} there, and "
                f"{tuple(wanted[name].shape)} in the model; use the model settings that it was trained with."
            )


def check_encoder(stored: Mapping[str, object], own: Mapping[str, object]) -> None:
    """Raise MmoodError unless a checkpoint was trained on the frozen encoder of the module."""
    if stored.get("weights_sha256") != own["weights_sha256"]:
        raise MmoodError(
            f"The checkpoint belongs to the encoder {stored.get('name')!r} with weights "
            f"{str(stored.get('weights_sha256'))[:12]}, but model.encoder gives {own['name']!r} with weights "
            f"{str(own['weights_sha256'])[:12]}; name the same encoder and tag."
        )


def check_recipe(stored: object, own: Mapping[str, object]) -> None:
    """Raise MmoodError unless the settings that a checkpoint and the module both name are the same."""
    before = dict(_leaves(plain(stored, "The recipe in the checkpoint"), "model"))
    for place, now in _leaves(own, "model"):
        if place in before and before[place] != now:
            raise MmoodError(
                f"The checkpoint was trained with {place} = {before[place]!s:.80}, but now it is {now!s:.80}; use the "
                "settings that it was trained with, which --ckpt_path brings along."
            )


def _leaves(value: object, where: str) -> Iterator[tuple[str, object]]:
    """Yield the place and value of everything that is no mapping and no list, and the number of items of each list."""
    if isinstance(value, Mapping):
        for name, below in value.items():
            yield from _leaves(below, f"{where}.{name}")
    elif isinstance(value, list):
        yield f"the number of {where}", len(value)
        for place, below in enumerate(value):
            yield from _leaves(below, f"{where}[{place}]")
    else:
        yield where, value
