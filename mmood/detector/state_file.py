"""What a stream score remembers as a file, with what it takes to understand it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from mmood.errors import MmoodError
from mmood.files import write_atomically

SCHEMA = 1
_KEY = "mmood_stream"


def write_state(path: Path, state: Mapping[str, Tensor], belongs_to: Mapping[str, object]) -> None:
    """Write the tensors of a memory, whole or not at all.

    Args:
        path: of the safetensors file.
        state: of a stream score.
        belongs_to: plain data that must be the same where the state is read.

    Raises:
        MmoodError: the file cannot be written.
    """
    owner = json.dumps({"schema": SCHEMA, **belongs_to}, sort_keys=True, default=str)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    write_atomically(path, save(tensors, {_KEY: owner}))


def read_state(path: Path, belongs_to: Mapping[str, object]) -> dict[str, Tensor]:
    """Return the tensors of a memory.

    Raises:
        MmoodError: there is no such file, it is no state, or it belongs to something else; names the first difference.
    """
    if not path.is_file():
        raise MmoodError(f"There is no state of a stream at {path}; StreamDetector.save writes one.")
    try:
        with safe_open(path, framework="pt") as file:
            owner: dict[str, Any] = json.loads((file.metadata() or {})[_KEY])
            found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no mapping)
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise MmoodError(f"{path} is no state of a stream that StreamDetector.save wrote: {error}.") from error
    here = json.loads(json.dumps({"schema": SCHEMA, **belongs_to}, sort_keys=True, default=str))
    given, wanted = dict(_leaves(owner)), dict(_leaves(here))
    for name in [*wanted, *given]:
        if given.get(name) != wanted.get(name):
            raise MmoodError(
                f"The state {path} belongs to another detector: its {name} is {_short(given.get(name))}, and here "
                f"it is {_short(wanted.get(name))}; load it where score, encoder and words are those it was saved with."
            )
    return found


def _leaves(value: object, name: str = "") -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f"{name}.{key}" if name else key)
    else:
        yield name, value


def _short(value: object) -> str:
    return repr(value)[:14].strip("'") if isinstance(value, str) and len(value) == 64 else repr(value)[:80]
