"""A memory as named tensors: what is saved of it, where it lies, and what a saved one must look like.

All of it follows from the annotations of a frozen dataclass: `Float32[Tensor, "kept dim"]` names type and shape.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

import torch
from jaxtyping import AbstractArray, Float, Int64, UInt8
from torch import Tensor

from mmood.errors import MmoodError
from mmood.scores.test_time.rows import Rows

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Data = TypeVar("Data", bound="DataclassInstance")

Field = TypeVar("Field")
ROUNDING = 1e-3
_DERIVED = "derived"
Derived = Annotated[Field, _DERIVED]
"""A field of a memory that follows from the others: it is not saved, but computed again."""


@dataclass(frozen=True)
class Shape:
    """What a saved tensor must be.

    Attributes:
        dtype: such as "float32".
        dims: the size, or the name that stands for one, of each dimension.
    """

    dtype: str
    dims: tuple[int | str, ...]

    def __str__(self) -> str:
        return f"torch.{self.dtype} of shape ({', '.join(map(str, self.dims))}{',' if len(self.dims) == 1 else ''})"


def saved_tensors(memory: DataclassInstance) -> dict[str, Tensor]:
    """Return copies of the tensors of a memory, and of a dataclass in it, by name; without what is derived."""
    found: dict[str, Tensor] = {}
    for name in _saved(type(memory)):
        value = getattr(memory, name)
        if isinstance(value, Rows):
            value = value.tensor()
        found |= {name: value.detach().clone()} if isinstance(value, Tensor) else saved_tensors(value)
    return found


def moved(data: Data, device: torch.device) -> Data:
    """Return a dataclass with its own tensors on a device; what else it holds stays where it is."""
    tensors = {item.name: getattr(data, item.name) for item in fields(data)}
    return replace(data, **{name: value.to(device) for name, value in tensors.items() if isinstance(value, Tensor)})


def device_of(data: DataclassInstance) -> torch.device:
    """Return where the first tensor of a dataclass lies."""
    values = (getattr(data, item.name) for item in fields(data))
    return next((value.device for value in values if isinstance(value, Tensor)), torch.device("cpu"))


@cache
def schema(memory: type) -> dict[str, Shape]:
    """Return what a saved memory holds, by the annotations of its dataclass.

    Raises:
        TypeError: a field is neither derived nor annotated with type and shape; or two have one name.

    >>> @dataclass(frozen=True)
    ... class Memory:
    ...     place: Int64[Tensor, " kept"]
    ...     counts: Int64[Tensor, " 3"]
    >>> {name: str(shape) for name, shape in schema(Memory).items()}
    {'place': 'torch.int64 of shape (kept,)', 'counts': 'torch.int64 of shape (3,)'}
    """
    found: dict[str, Shape] = {}
    for item, hint in _saved(memory).items():
        for name, shape in _shapes(memory, item, hint):
            if name in found:
                raise TypeError(f"{memory.__qualname__} has two tensors called '{name}'.")
            found[name] = shape
    return found


@cache
def _saved(memory: type) -> dict[str, Any]:
    """Return the fields of a dataclass that are not derived, with their annotations."""
    hints = get_type_hints(memory, include_extras=True)
    named = {item.name: hints[item.name] for item in fields(memory)}
    return {name: hint for name, hint in named.items() if _DERIVED not in getattr(hint, "__metadata__", ())}


def _shapes(memory: type, name: str, hint: Any) -> Iterator[tuple[str, Shape]]:
    if get_origin(hint) is Annotated:
        hint = get_args(hint)[1]
    if isinstance(hint, type) and is_dataclass(hint):
        yield from schema(hint).items()
    elif isinstance(hint, type) and issubclass(hint, AbstractArray) and len(hint.dtypes) == 1:
        dims = tuple(int(dim) if dim.isdecimal() else dim for dim in hint.dim_str.split())
        yield name, Shape(hint.dtypes[0], dims)
    else:
        raise TypeError(f'{memory.__qualname__}.{name} needs a type like Float32[Tensor, "kept dim"], or Derived[...].')


def checked(owner: str, memory: type, fitted: DataclassInstance, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return copies of saved tensors that have the names, types and shapes of a memory.

    A dimension whose name also stands in the annotations of `fitted` has the size that it has there; any other has one
    size wherever it stands. Numbers are finite.

    Args:
        owner: how messages call the score.
        memory: the dataclass of the memory.
        fitted: what the score has learned.
        given: the tensors.

    Raises:
        MmoodError: they do not belong to this score, or not to each other.
    """
    wanted = schema(memory)
    if wanted.keys() != given.keys():
        raise MmoodError(
            f"A state of {owner} holds {', '.join(sorted(wanted))}; "
            f"the one given holds {', '.join(sorted(given)) or 'nothing'}."
        )
    sizes = _sizes(fitted)
    for name, shape in wanted.items():
        known = Shape(shape.dtype, tuple(sizes.get(dim, dim) if isinstance(dim, str) else dim for dim in shape.dims))
        if not _fits(given[name], known):
            raise MmoodError(
                f"The state's '{name}' is {given[name].dtype} of shape {tuple(given[name].shape)}, but this {owner} "
                f"holds {known}; use the settings and encoder it was made with."
            )
        if given[name].is_floating_point() and not given[name].isfinite().all():
            raise MmoodError(f"The state's '{name}' holds a NaN or an infinite value, which {owner} never writes.")
    _check_together(owner, wanted, given)
    return {name: given[name].detach().clone() for name in wanted}


def _fits(tensor: Tensor, shape: Shape) -> bool:
    if f"torch.{shape.dtype}" != str(tensor.dtype) or tensor.dim() != len(shape.dims):
        return False
    return all(size == dim for size, dim in zip(tensor.shape, shape.dims, strict=True) if isinstance(dim, int))


def _sizes(fitted: DataclassInstance) -> dict[str, int]:
    """Return the sizes of the named dimensions of what was learned."""
    hints = get_type_hints(type(fitted))
    found: dict[str, int] = {}
    for item in fields(fitted):
        hint, value = hints[item.name], getattr(fitted, item.name)
        if isinstance(value, Tensor) and isinstance(hint, type) and issubclass(hint, AbstractArray):
            found |= dict(zip(hint.dim_str.split(), value.shape, strict=True))
    return found


def _check_together(owner: str, wanted: Mapping[str, Shape], given: Mapping[str, Tensor]) -> None:
    sizes: dict[str, dict[str, int]] = {}
    for name, shape in wanted.items():
        for dim, size in zip(shape.dims, given[name].shape, strict=True):
            if isinstance(dim, str):
                sizes.setdefault(dim, {})[name] = size
    for of in sizes.values():
        if len(set(of.values())) > 1:
            lengths = ", ".join(f"{name} {size}" for name, size in of.items())
            raise MmoodError(
                f"The state of {owner} is inconsistent: its tensors must have the same number of rows, but there are "
                f"{lengths}."
            )


def check_counts(owner: str, counts: Int64[Tensor, " counts"]) -> list[int]:
    """Return counts, of which the first is the number of images seen; MmoodError if one is negative or larger."""
    found: list[int] = counts.tolist()
    if any(not 0 <= count <= found[0] for count in found):
        raise MmoodError(
            f"The state of {owner} is inconsistent: its counts are {found}, but none may exceed the first."
        )
    return found


def check_range(owner: str, name: str, values: Tensor, low: float, high: float = math.inf) -> None:
    """Raise MmoodError unless the numbers of a saved tensor lie in [low, high], but for rounding."""
    if len(values) and not low - ROUNDING <= float(values.min()) <= float(values.max()) <= high + ROUNDING:
        raise MmoodError(
            f"The state's '{name}' holds numbers outside of [{low:g}, {high:g}], which {owner} never writes."
        )


def check_unit(owner: str, name: str, rows: Float[Tensor, "kept dim"]) -> None:
    """Raise MmoodError unless the rows of a saved tensor are of unit norm, but for rounding."""
    if len(rows) and float((rows.norm(dim=-1) - 1).abs().max()) > ROUNDING:
        raise MmoodError(f"The state's '{name}' holds a row without unit norm, which {owner} never writes.")


def check_places(owner: str, place: Int64[Tensor, " kept"], seen: int, least: int = 0) -> None:
    """Raise MmoodError unless positions in the stream lie in [least, seen), each from 0 on at most once."""
    stream = place[place >= 0].tolist()
    if len(place) and not least <= int(place.min()) <= int(place.max()) < seen:
        wrong = int(place.min()) if int(place.min()) < least else int(place.max())
        raise MmoodError(
            f"The state of {owner} is inconsistent: it holds image {wrong} of a stream of {seen} images so far."
        )
    if len(set(stream)) < len(stream):
        raise MmoodError(f"The state of {owner} is inconsistent: it holds an image twice.")


def check_size(owner: str, name: str, found: int, wanted: int) -> None:
    """Raise MmoodError unless a state has as many rows of a kind as its counts say."""
    if found != wanted:
        raise MmoodError(
            f"The state of {owner} is inconsistent: it holds {found} {name}, but by its counts there should be "
            f"{wanted}."
        )


def generator_of(state: UInt8[Tensor, " generator"]) -> torch.Generator:
    """Return a generator on the CPU in a state; MmoodError if it is no state."""
    generator = torch.Generator()
    try:
        return generator.set_state(state.cpu())
    except RuntimeError as error:
        raise MmoodError(
            f"The state's 'generator' is not a generator state of this PyTorch version: {error}."
        ) from error
