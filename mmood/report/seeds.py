"""Which runs differ in nothing but their seed, and the spread over them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from mmood.report.runs import Run

# Settings that say where a run lies, what it was started from, or which seed it has.
_OF_ONE_RUN = frozenset(
    {
        "seed",
        "seed_everything",
        "run_dir",
        "overwrite",
        "name",
        "ckpt_path",
        "default_root_dir",
        "save_dir",
        "dirpath",
        "version",
    }
)


@dataclass(frozen=True)
class RunGroup:
    """Runs with the same settings and different seeds; most often a single one.

    Attributes:
        name: of the first run, with the number of seeds if there are several.
        runs: of the group.
    """

    name: str
    runs: tuple[Run, ...]


def group_seeds(runs: Sequence[Run]) -> list[RunGroup]:
    """Return the runs in groups; one without its settings or with the seed of another stands alone."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        key = _settings(run)
        if any(seed_of(run) == seed_of(other) for other in groups.get(key, [])):
            key = f"{key}\n{run.name}"
        groups.setdefault(key, []).append(run)
    return [
        RunGroup(own[0].name if len(own) == 1 else f"{own[0].name} (+ {len(own) - 1} seeds)", tuple(own))
        for own in groups.values()
    ]


def same_bits(groups: Sequence[RunGroup]) -> list[str]:
    """Return a sentence for every two runs of a group that claim different seeds and have the same numbers."""
    return [
        f"{one.name} and {other.name} state the seeds {seed_of(one)} and {seed_of(other)}, and their numbers "
        "are the same to the last bit: nothing in them depends on the seed, so ± over them does not measure the "
        "variation of training."
        for group in groups
        for one, other in combinations(group.runs, 2)
        if one.results.rows == other.results.rows and one.results.id == other.results.id
    ]


def seed_of(run: Run) -> object:
    """Return the seed that a run recorded."""
    return run.results.provenance.get("seed")


def flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted name, value) for every setting; lists stay whole.

    >>> dict(flat({"data": {"id": "sun", "ood": {}}}))
    {'data.id': 'sun', 'data.ood': {}}
    """
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _settings(run: Run) -> str:
    if not run.config:
        return run.name
    shared = [(name, value) for name, value in flat(run.config) if name.rpartition(".")[2] not in _OF_ONE_RUN]
    return json.dumps(shared, default=str)
