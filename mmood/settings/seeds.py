"""One seed rules all that are not set by themselves: `seed: null` and `seeds: null` follow `seed_everything`."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any

STREAMS = 3
"""How many streams a run has if its `seeds` are not set."""

_GROUPS = ("model", "data", "evaluation")


def stream_seeds(seed: int) -> tuple[int, ...]:
    """Return the seeds of the streams of a run; those of runs with different seeds differ.

    >>> stream_seeds(0), stream_seeds(1)
    ((0, 1, 2), (3, 4, 5))
    """
    return tuple(range(STREAMS * seed, STREAMS * (seed + 1)))


def resolved_seeds(config: argparse.Namespace | Mapping[str, Any]) -> dict[str, int | tuple[int, ...]]:
    """Return the seeds that a config leaves open, by their keys, as they follow from its `seed_everything`.

    >>> resolved_seeds({"seed_everything": 2, "data": {"seed": None, "loader": {"seed": 7}}, "trainer": {"seed": None}})
    {'data.seed': 2}
    """
    seed = _run_seed(config)
    return {where: _value(name, seed) for where, _, name in _open(config)}


def with_seeds(config: argparse.Namespace) -> argparse.Namespace:
    """Return a copy of a config with every seed that it leaves open."""
    filled = deepcopy(config)
    seed = _run_seed(filled)
    for _, owner, name in list(_open(filled)):
        if isinstance(owner, dict):
            owner[name] = _value(name, seed)
        else:
            setattr(owner, name, _value(name, seed))
    return filled


def _run_seed(config: argparse.Namespace | Mapping[str, Any]) -> int:
    seed = _items(config).get("seed_everything")
    return seed if isinstance(seed, int) and not isinstance(seed, bool) else 0


def _value(name: str, seed: int) -> int | tuple[int, ...]:
    return seed if name == "seed" else stream_seeds(seed)


def _open(config: argparse.Namespace | Mapping[str, Any]) -> Iterator[tuple[str, Any, str]]:
    """Yield (key, what holds it, its last name) of every seed without a value."""
    waiting = [(group, _items(config).get(group)) for group in _GROUPS]
    while waiting:
        where, owner = waiting.pop(0)
        for name, value in _items(owner).items():
            if name in ("seed", "seeds") and value is None:
                yield f"{where}.{name}", owner, name
            else:
                waiting.append((f"{where}.{name}", value))


def _items(node: object) -> Mapping[str, Any]:
    if isinstance(node, argparse.Namespace):
        return vars(node)
    if isinstance(node, list):
        return {str(place): item for place, item in enumerate(node)}
    return node if isinstance(node, Mapping) else {}
