"""Runs the stream scores of a detector at the end of an evaluation, on stored features."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_info

from mmood.data.catalog import ID_GROUPS, EvaluationSet
from mmood.evaluation.store import SetScores
from mmood.evaluation.streams.evaluation import StreamResult, StreamRuns, StreamSet
from mmood.evaluation.streams.files import write_stream
from mmood.evaluation.streams.order import StreamOrder
from mmood.evaluation.streams.runner import StreamName, StreamScores, run_stream
from mmood.evaluation.streams.settings import StreamSettings
from mmood.evaluation.streams.source import Rows, StreamSource, images_of
from mmood.evaluation.streams.temporary_store import TemporaryStore
from mmood.features.store import StoredFeatures
from mmood.loading.loader import Decoder
from mmood.modules.base import AbstractDetector
from mmood.output.console import progress_bar
from mmood.results.blocks import label
from mmood.results.model import ResultRow


@dataclass(frozen=True)
class Streams:
    """What came of the streams of an evaluation.

    Attributes:
        rows: one for each score, set and seed.
        provenance: the protocol, and counts and purity of each stream; nothing where no stream ran.
    """

    rows: list[ResultRow] = field(default_factory=list)
    provenance: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class KeptScores:
    """Where the scores of single images go.

    Attributes:
        folder: the run folder.
        run: id of the run.
    """

    folder: Path
    run: str


def evaluate_streams(
    trainer: Trainer,
    module: AbstractDetector,
    sets: Mapping[str, EvaluationSet],
    stores: Mapping[str, StoredFeatures],
    settings: StreamSettings,
    keep: KeptScores | None,
    variant: str | None = None,
) -> Streams:
    """Return rows and provenance of the stream scores of a detector; every rank must call this.

    Args:
        trainer: of the evaluation.
        module: whose scores were fitted.
        sets: the ID set and the OoD sets.
        stores: features of every set.
        settings: the protocol.
        keep: where the scores of the images go; None to keep none.
        variant: how results call the weights, where a run evaluates several.
    """
    scores = dict(module.stream_scores())
    runs = StreamRuns(scores, _stream_sets(module, sets, stores), settings, _keeper(keep, variant))
    quiet = trainer.progress_bar_callback is None
    results = runs.evaluate(trainer.global_rank, trainer.world_size, quiet)
    protocol = {**settings.as_dict(), "update": {name: score.update for name, score in scores.items()}}
    of_streams = [{"variant": variant, **result.as_dict()} for result in results]
    return Streams(_rows(results, variant), {"streams": {"protocol": protocol, "runs": of_streams}})


def predict_streams(
    module: AbstractDetector, temporary: TemporaryStore, scores: SetScores, settings: StreamSettings, quiet: bool
) -> SetScores:
    """Return the scores of predicted images with a column more for each stream score.

    The images in the order of their keys are one stream.

    Args:
        module: whose scores were fitted.
        temporary: what `scores` read of every image.
        scores: the static scores.
        settings: batch size and first seed count.
        quiet: show no progress.
    """
    rows = temporary.rows()
    source = StreamSource(rows, rows, module.embed, module.device)
    order = StreamOrder(scores.key, np.ones(len(scores.key), dtype=np.bool_))
    columns = []
    for name, score in module.stream_scores():
        stream = StreamName(name, "predict", settings.drawn[0])
        score.reset(stream.seed)
        with progress_bar(f"stream {name}", len(order), quiet) as bar:
            columns.append(run_stream(score, stream, source, order, settings.batch_size, bar.advance).score)
    names = (*scores.names, *(name for name, _ in module.stream_scores()))
    return replace(scores, names=names, scores=np.column_stack([scores.scores, *columns]))


def left_out(module: AbstractDetector, why: str) -> None:
    """Say in the log that stream scores are not evaluated."""
    names = ", ".join(name for name, _ in module.stream_scores())
    rank_zero_info(
        f"Not evaluated, because {why}: {names}. Streams run over whole sets in `mmood test` and `mmood validate`."
    )


def _stream_sets(
    module: AbstractDetector, sets: Mapping[str, EvaluationSet], stores: Mapping[str, StoredFeatures]
) -> list[StreamSet]:
    id_set = next((entry for entry in sets.values() if entry.group == "id"), None)
    if id_set is None:
        return []
    transform, provider = module.image_transform(train=False), module.id_features()

    def decoder(name: str) -> Decoder:
        return Decoder(transform, None, provider.exif, provider.keyed(name, transform))

    rows = {
        entry.name: Rows(store.features, store.embedding, images_of(entry.index, decoder(entry.name)))
        for entry in sets.values()
        if (store := stores.get(entry.name)) is not None
    }
    return [
        StreamSet(
            name,
            entry.group,
            StreamSource(rows[id_set.name], rows[name], module.embed, module.device),
            (id_set.keys, entry.keys),
            stores[id_set.name].label.numpy(),
        )
        for name, entry in sets.items()
        if name in stores and entry.group not in ID_GROUPS
    ]


def _keeper(kept: KeptScores | None, variant: str | None) -> Callable[[StreamScores, StreamSet], None]:
    def keep(scores: StreamScores, entry: StreamSet) -> None:
        if kept is not None:
            name = StreamName(label(scores.name.score, variant), scores.name.set, scores.name.seed)
            write_stream(kept.folder, kept.run, StreamScores(name, scores.order, scores.score), entry.id_label)

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
