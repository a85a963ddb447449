"""The results of several benchmarks from one pass over their images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import yaml

from mmood.data.protocols import ProtocolSets, View
from mmood.evaluation.store import SetScores
from mmood.features.store import StoredFeatures
from mmood.files import parse_yaml, read_text, write_atomically
from mmood.shards.reading import Skipped

BENCHMARKS = "benchmarks"
"""Folder in a run folder, with a folder like that of a run for each of several benchmarks."""


def scores_in(protocol: ProtocolSets, found: Mapping[str, SetScores]) -> dict[str, SetScores]:
    """Return the scores of the sets of a benchmark, those of its views taken from the larger sets."""
    views = protocol.views
    return {
        name: _seen(found[views[name].of], name, views[name]) if name in views else found[name]
        for name in protocol.sets
    }


def stores_in(protocol: ProtocolSets, stores: Mapping[str, StoredFeatures]) -> dict[str, StoredFeatures]:
    """Return the features of the sets of a benchmark, likewise."""
    found = {}
    for name in protocol.sets:
        view, store = protocol.views.get(name), stores.get(protocol.read_as(name))
        if store is not None:
            found[name] = store if view is None else _rows_of(store, torch.from_numpy(view.keys))
    return found


def skipped_in(protocol: ProtocolSets, skipped: Sequence[tuple[str, Skipped]]) -> list[tuple[str, Skipped]]:
    """Return what was left out of the sets of a benchmark, likewise."""
    found = [(name, sample) for name, sample in skipped if name in protocol.sets and name not in protocol.views]
    for name, view in protocol.views.items():
        for of, sample in skipped:
            if of == view.of:
                found += [(name, sample._replace(key=int(key))) for key in np.flatnonzero(view.keys == sample.key)]
    return found


def folder_of(protocol: ProtocolSets, run: Path) -> Path:
    """Return the folder of a benchmark's results in the folder of a run."""
    return run if protocol.name is None else run / BENCHMARKS / protocol.name


def write_config(protocol: ProtocolSets, run: Path, stage: str) -> None:
    """Write the config of a run with this benchmark alone beside its results."""
    source = run / f"config.{stage}.yaml"
    if protocol.name is None or not source.is_file():
        return
    text = read_text(source, str(source))
    comments = [line for line in text.splitlines() if line.startswith("#")]
    config = parse_yaml(text, str(source))
    config["data"]["benchmark"] = protocol.name
    content = "\n".join([*comments, yaml.safe_dump(config, sort_keys=False, allow_unicode=True)])
    write_atomically(folder_of(protocol, run) / source.name, content.encode())


def _seen(scores: SetScores, name: str, view: View) -> SetScores:
    place = np.searchsorted(scores.key, view.keys)
    met = np.append(scores.key, -1)[place] == view.keys
    rows = place[met]
    return SetScores(
        set=name,
        names=scores.names,
        key=np.flatnonzero(met),
        label=scores.label[rows],
        predicted=scores.predicted[rows],
        scores=scores.scores[rows],
        skipped=np.flatnonzero(np.isin(view.keys, scores.skipped)),
    )


def _rows_of(store: StoredFeatures, keys: torch.Tensor) -> StoredFeatures:
    embedding = None if store.embedding is None else store.embedding[keys]
    return replace(store, features=store.features[keys], embedding=embedding, label=store.label[keys])
