"""What a stream score remembers as a file, with what it takes to understand it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from mmood.errors import MmoodError
from mmood.files import parse_json, write_atomically

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
        MmoodError: there is no such file, it is not a state, or it belongs to another detector (names the difference).
    """
    if not path.is_file():
        raise MmoodError(f"There is no saved state at {path}; StreamDetector.save_state writes one.")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = (file.metadata() or {}).get(_KEY, "null")
            found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no mapping)
    except (OSError, SafetensorError, ValueError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise MmoodError(f"{path} is not a state that StreamDetector.save_state wrote: {reason}.") from error
    owner = parse_json(metadata.encode(), f"What {path} says of itself")
    if not isinstance(owner, dict):
        raise MmoodError(f"{path} is not a state that StreamDetector.save_state wrote: it does not say whose it is.")
    here = json.loads(json.dumps({"schema": SCHEMA, **belongs_to}, sort_keys=True, default=str))
    given, wanted = _leaves(owner), _leaves(here)
    for name in [*wanted, *given]:
        if given.get(name) != wanted.get(name):
            raise MmoodError(
                f"The state {path} belongs to another detector: its {name} is {_short(given.get(name))}, and here "
                f"it is {_short(wanted.get(name))}; load it where score, encoder and words are those it was saved with."
            )
    return found


def _leaves(value: Mapping[str, object]) -> dict[str, object]:
    """Return what stands at the ends of nested mappings, by the dotted path there; no depth is too much."""
    found: dict[str, object] = {}
    left: list[tuple[str, object]] = list(value.items())
    while left:
        name, inner = left.pop()
        if isinstance(inner, dict):
            left += [(f"{name}.{key}", deeper) for key, deeper in inner.items()]
        else:
            found[name] = inner
    return dict(sorted(found.items()))


def _short(value: object) -> str:
    return repr(value)[:14].strip("'") if isinstance(value, str) and len(value) == 64 else repr(value)[:80]
