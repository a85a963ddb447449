"""Runs the stream scores of a detector at the end of an evaluation, on stored features."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_info

from mmood.data.catalog import EvaluationSet
from mmood.data.feature_store import StoredFeatures
from mmood.modules.base import AbstractDetector
from mmood.report.blocks import label
from mmood.report.model import ResultRow
from mmood.streams.evaluation import StreamResult, StreamRuns, StreamSet
from mmood.streams.files import write_stream
from mmood.streams.runner import StreamName, StreamScores
from mmood.streams.settings import StreamSettings
from mmood.streams.source import StreamSource


@dataclass(frozen=True)
class Streams:
    """What came of the streams of an evaluation.

    Attributes:
        rows: one for each score, set and seed.
        provenance: the protocol, and counts and purity of each stream; nothing where no stream ran.
    """

    rows: list[ResultRow] = field(default_factory=list)
    provenance: Mapping[str, object] = field(default_factory=dict)


def evaluate_streams(
    trainer: Trainer,
    module: AbstractDetector,
    sets: Mapping[str, EvaluationSet],
    stores: Mapping[str, StoredFeatures],
    settings: StreamSettings,
    folder: Path | None,
) -> Streams:
    """Return rows and provenance of the stream scores of a detector; every rank must call this.

    Args:
        trainer: of the evaluation.
        module: whose scores were fitted.
        sets: the ID set and the OoD sets.
        stores: features of every set.
        settings: the protocol.
        folder: run folder for the scores of the images; None to keep none.
    """
    scores = dict(module.stream_scores())
    runs = StreamRuns(scores, _stream_sets(module, sets, stores), settings, _keeper(folder, module.variant))
    quiet = trainer.progress_bar_callback is None
    results = runs.evaluate(trainer.global_rank, trainer.world_size, quiet)
    protocol = {**settings.as_dict(), "update": {name: score.update for name, score in scores.items()}}
    of_streams = [{"variant": module.variant, **result.as_dict()} for result in results]
    return Streams(_rows(results, module.variant), {"streams": {"protocol": protocol, "runs": of_streams}})


def left_out(module: AbstractDetector, why: str) -> None:
    """Say in the log that stream scores are not evaluated."""
    names = ", ".join(name for name, _ in module.stream_scores())
    rank_zero_info(f"Left out while {why}: {names}; streams run over whole sets in `mmood test` and `mmood validate`.")


def _stream_sets(
    module: AbstractDetector, sets: Mapping[str, EvaluationSet], stores: Mapping[str, StoredFeatures]
) -> list[StreamSet]:
    id_set = next((entry for entry in sets.values() if entry.group == "id"), None)
    if id_set is None:
        return []
    return [
        StreamSet(
            name,
            entry.group,
            StreamSource(stores[id_set.name], stores[name], module.embed, module.device),
            (id_set.keys, entry.keys),
        )
        for name, entry in sets.items()
        if name in stores and entry.group != "id"
    ]


def _keeper(folder: Path | None, variant: str | None) -> Callable[[StreamScores, StreamSet], None]:
    def keep(scores: StreamScores, entry: StreamSet) -> None:
        if folder is not None:
            name = StreamName(label(scores.name.score, variant), scores.name.set, scores.name.seed)
            write_stream(folder, StreamScores(name, scores.order, scores.score), entry.source.id.label.numpy())

    return keep


def _rows(results: list[StreamResult], variant: str | None) -> list[ResultRow]:
    return [
        ResultRow(
            score=result.name.score,
            variant=variant,
            seed=result.name.seed,
            protocol="test_time",
            set=result.name.set,
            group=result.group,
            metrics=result.metrics,
        )
        for result in results
    ]
