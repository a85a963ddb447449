"""The evaluation: one store per set, gathered once, exact metrics, files and a table."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer

from mmood.data.catalog import ID_GROUPS
from mmood.data.datamodule import EvaluationSet, EvaluationStage, OoDDataModule
from mmood.data.protocols import ProtocolSets
from mmood.defences import SmoothingSettings
from mmood.errors import MmoodError
from mmood.evaluation.audit import audit_sets
from mmood.evaluation.each_batch import EachBatch
from mmood.evaluation.figures import log_figures
from mmood.evaluation.overlap import IdImages, find_overlaps
from mmood.evaluation.predictions import Inputs, write_predictions, write_scores
from mmood.evaluation.protocols import folder_of, scores_in, skipped_in, stores_in, write_config
from mmood.evaluation.provenance import provenance
from mmood.evaluation.rows import ScoreColumn, id_rows, logged_values, ood_rows
from mmood.evaluation.smoothed import OFF as SMOOTHING
from mmood.evaluation.smoothed import SmoothedScores
from mmood.evaluation.store import ScoreStore, SetScores, constant_scores
from mmood.evaluation.streams.callback import KeptScores, Streams, evaluate_streams, left_out, predict_streams
from mmood.evaluation.streams.settings import DEFAULT as STREAM
from mmood.evaluation.streams.settings import StreamSettings
from mmood.evaluation.streams.temporary_store import TemporaryStore
from mmood.evaluation.variants import Variants
from mmood.features.store import StoredFeatures
from mmood.metrics.gather import from_main, gathered_objects
from mmood.modules.base import AbstractDetector, limited
from mmood.output.console import console
from mmood.output.escaping import visible
from mmood.output.printing import complain, say
from mmood.results.arrays import files_of_scores
from mmood.results.audit import Audit
from mmood.results.model import IdRow, Overlap, ResultRow, Results, build_results, joined_variant
from mmood.results.serialisation import write_results
from mmood.results.tables import to_rich
from mmood.runs.run_files import run_id
from mmood.runs.signals import leaves, uninterrupted
from mmood.shards.reading import Skipped


class OoDCallback(EachBatch):
    """Evaluates the outputs of the detector's steps, exactly on any number of ranks.

    Every image is counted once: a key that comes twice or not at all ends the run. Sanity checks, `fast_dev_run` and
    `limit_*_batches` give partial numbers that are shown and logged, but not written as results.

    Args:
        save_scores: keep the scores of every image in `scores/<set>.npz`.
        show: print the table at the end of an evaluation.
        stream: the streams of images for scores that learn from them.
        overlap: in a test, count the images of each OoD set that are exact copies of ID test or ID training images.
            Hashes of the files are kept in the cache; sets on other machines are not compared, which the results state.
        audit: in a test, look for OoD images that are near copies of ID images, or look like an ID class, by their
            embeddings. Images without stored features are encoded for it.
        smoothing: median smoothing of the static scores in a test or validation, with certified bounds.

    Attributes:
        variants: what joins the passes where a run evaluates several weights.
        run: the id of the run; "" before it begins.
    """

    def __init__(
        self,
        save_scores: bool = True,
        show: bool = True,
        stream: StreamSettings = STREAM,
        overlap: bool = True,
        audit: bool = False,
        smoothing: SmoothingSettings = SMOOTHING,
    ) -> None:
        self.save_scores = save_scores
        self.show = show
        self.stream = stream
        self.overlap = overlap
        self.audit = audit
        self.smoothed = SmoothedScores(smoothing)
        self._columns: list[ScoreColumn] = []
        self._variant: str | None = None
        self._sets: dict[str, EvaluationSet] = {}
        self._stores: dict[str, ScoreStore] = {}
        self._skipped: list[tuple[str, Skipped]] = []
        self.variants = Variants()
        self._temporary: TemporaryStore | None = None
        # By benchmark; a run with a single one has no name for it.
        self._overlaps: dict[str | None, list[Overlap]] = {}
        self._audits: dict[str | None, Audit | None] = {}
        self._protocols: list[ProtocolSets] = []
        self._told = False
        self.run = ""
        # What the last prediction was of; None before it has ended.
        self.predicted: Inputs | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse the precisions in which weights and scores would not be float32, and a test of no image.

        Where scores are smoothed, the images themselves are read.

        Raises:
            MmoodError: the precision is one of those, or a limit of the Trainer leaves all batches out.
        """
        check_precision(trainer)
        limits = {
            "validate": ("limit_val_batches", trainer.limit_val_batches),
            "test": ("limit_test_batches", trainer.limit_test_batches),
        }
        key, batches = limits.get(stage, ("", None))
        if batches == 0:
            raise MmoodError(f"`trainer.{key}` is 0, so no image would be evaluated; set it above 0.")
        if stage in limits and self.smoothed.variants:
            detector(pl_module).read_images()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open a store for every validation set."""
        if trainer.state.fn == "validate":
            self._begin(trainer, "validate")
        self._open(pl_module, data_module(trainer), "validate", smooth=trainer.state.fn == "validate")

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open a store for every test set."""
        self._begin(trainer, "test")
        data = data_module(trainer)
        self._open(pl_module, data, "test", smooth=True)
        whole = not limited(trainer.limit_test_batches)
        if self.overlap and whole and trainer.is_global_zero and not self._overlaps:
            self._overlaps = {each.name: self._found_overlaps(trainer, each.sets) for each in self._protocols}
        if self.audit and whole and not self._audits:
            train = _train_images(data)
            self._audits = {each.name: audit_sets(detector(pl_module), each.sets, train) for each in self._protocols}

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open a store for the images to predict."""
        self._begin(trainer, "predict")
        self._sets, self._skipped = {}, []
        self._temporary = self._new_temporary_store(trainer, detector(pl_module))
        self._stores = {"predict": ScoreStore("predict", detector(pl_module).score_names).to(pl_module.device)}

    def take(self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, dataloader_idx: int) -> None:
        """Store the scores of a batch."""
        name = list(self._stores)[dataloader_idx]
        store, scored, scores = self._stores[name], outputs.scored, outputs.scored.scores
        if len(store.names) > scores.shape[1]:
            ood = self._sets[name].group not in ID_GROUPS
            scores = torch.cat([scores, self.smoothed.of(trainer, detector(module), batch, ood)], dim=1)
        store.update(scored.key, scored.label, scored.predicted, scores)
        for sample in batch.get("skipped", []):
            self._skipped.append((name, sample))
            store.skip(scored.key.new_tensor([sample.key]))
        if trainer.predicting and self._temporary is not None:
            self._temporary.add(outputs.scored.key, outputs.embedded.features, outputs.embedded.embedding)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the metrics; `mmood validate` also writes them."""
        partial = trainer.sanity_checking or limited(trainer.limit_val_batches)
        self._report(trainer, detector(pl_module), "fit" if trainer.state.fn == "fit" else "validate", partial)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log, show and write the metrics."""
        self._report(trainer, detector(pl_module), "test", limited(trainer.limit_test_batches))

    def on_predict_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write a row per image, with its scores or why it has none."""
        names = data_module(trainer).predict_names()
        scores = self._stores["predict"].collected(None if limited(trainer.limit_predict_batches) else len(names))
        skipped = [sample for _, sample in gathered_objects(self._skipped)]
        self.predicted = inputs = Inputs(names, {sample.key: sample.reason for sample in skipped})
        if scores is not None and self._temporary is not None:
            quiet = trainer.progress_bar_callback is None
            scores = predict_streams(detector(pl_module), self._temporary, scores, self.stream, quiet)
            self._temporary.remove()
        if scores is not None:
            class_names = detector(pl_module).class_names
            with uninterrupted():
                path = write_predictions(_run_folder(trainer), self.run, scores, inputs, class_names)
                leaves("predict", f"The predictions were written to {path}.")
            say(f"Predictions: {path}. {inputs.summary()}")

    def _begin(self, trainer: Trainer, stage: str) -> None:
        """Learn the id of the run; evaluations of several weights are one run."""
        if self.variants.current in (None, *self.variants.names[:1]):
            self.run = run_id(trainer, stage)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Delete what a run that is cut short has stored for itself alone."""
        if self._temporary is not None:
            self._temporary.remove()
        if isinstance(pl_module, AbstractDetector) and pl_module.provider is not None:
            pl_module.provider.abandon()

    def _open(self, module: LightningModule, data: OoDDataModule, stage: EvaluationStage, smooth: bool) -> None:
        self._variant = joined_variant(self.variants.current, data.corruptions.label)
        scores, smoothed = detector(module).score_names, self.smoothed.variants if smooth else ()
        self._columns = [ScoreColumn(score, self._variant) for score in scores]
        self._columns += [ScoreColumn(score, joined_variant(self._variant, of)) for score in scores for of in smoothed]
        names = [column.name for column in self._columns]
        self._sets, self._protocols, self._skipped = data.evaluation_sets(stage), data.protocols(stage), []
        self._stores = {name: ScoreStore(name, names).to(module.device) for name in self._sets}

    def _collect(self, trainer: Trainer, partial: bool) -> dict[str, SetScores] | None:
        """Return the scores of all images on the main process, None on the other ranks."""
        # Every rank enters for every set, in the same order.
        found = {
            name: store.collected(None if partial else self._sets[name].keys) for name, store in self._stores.items()
        }
        of_main = {name: scores for name, scores in found.items() if scores is not None}
        return of_main if trainer.is_global_zero else None

    def _report(self, trainer: Trainer, module: AbstractDetector, stage: str, partial: bool) -> None:
        found, skipped = self._collect(trainer, partial), gathered_objects(self._skipped)
        stores = self._stream_stores(module, stage)
        if found is not None and not trainer.sanity_checking:
            say_constant(found, len(module.class_names))
        for protocol in self._protocols:
            streams = self._streams(trainer, module, protocol, stores)
            of_sets = {} if found is None else scores_in(protocol, found)
            # Only the main process has the scores, but every rank logs, and may choose checkpoints by, the metrics.
            id_side, ood_side = from_main(functools.partial(self._rows, protocol, of_sets))
            results = build_results(
                run=self.run or None,
                stage=stage,
                id_rows=id_side,
                rows=ood_side + streams.rows,
                provenance={
                    **provenance(trainer, module, protocol),
                    "smoothing": self.smoothed.record(),
                    **streams.provenance,
                },
                skipped=[{"set": name, **as_text(sample)} for name, sample in skipped_in(protocol, skipped)],
                overlap=self._overlaps.get(protocol.name, ()),
                audit=self._audits.get(protocol.name),
                partial=partial,
            )
            values = logged_values(results, protocol.name, self._variant)
            module.log_dict(values, add_dataloader_idx=False, rank_zero_only=False)
            if trainer.is_global_zero and not trainer.sanity_checking:
                self._publish(trainer, protocol, results, of_sets)
        if stores is not None:
            module.id_features().discard()

    def _rows(self, protocol: ProtocolSets, found: Mapping[str, SetScores]) -> tuple[list[IdRow], list[ResultRow]]:
        return id_rows(protocol.sets, found, self._variant), ood_rows(protocol.sets, found, self._columns)

    def _publish(self, trainer: Trainer, protocol: ProtocolSets, results: Results, found: dict[str, SetScores]) -> None:
        joined, of_all = self.variants.joined(results, found, protocol.name)
        written = results.stage != "fit" and not results.partial
        folder = folder_of(protocol, _run_folder(trainer))
        if written:
            write_config(protocol, _run_folder(trainer), results.stage)
            self._write(folder, joined, of_all)
        log_figures(trainer.loggers, results, found, trainer.global_step)
        if self.show and (joined.rows or results.stage != "fit") and self.variants.last:
            if protocol.name is not None:
                say(f"{protocol.name}:")
            console().print(to_rich(joined))
        if written:
            say(f"Results: {folder}")

    def _found_overlaps(self, trainer: Trainer, sets: Mapping[str, EvaluationSet]) -> list[Overlap]:
        data, quiet = data_module(trainer), trainer.progress_bar_callback is None
        return find_overlaps(sets, _train_images(data), data.loader.on_error == "skip", quiet)

    def _stream_stores(self, module: AbstractDetector, stage: str) -> dict[str, StoredFeatures] | None:
        """Return the features of every set that is read, None where no stream runs."""
        if not module.runs_streams():
            if module.stream_scores() and not self._told:
                self._told = True
                left_out(module, "a run trains" if stage == "fit" else "not all images are evaluated")
            return None
        with torch.inference_mode(False), torch.no_grad():
            return module.id_features().on_disk({name: entry.index for name, entry in self._sets.items()})

    def _streams(
        self,
        trainer: Trainer,
        module: AbstractDetector,
        protocol: ProtocolSets,
        stores: Mapping[str, StoredFeatures] | None,
    ) -> Streams:
        if stores is None:
            return Streams()
        kept = KeptScores(folder_of(protocol, _run_folder(trainer)), self.run) if self.save_scores else None
        with torch.inference_mode(False), torch.no_grad():
            own = stores_in(protocol, stores)
        return evaluate_streams(trainer, module, protocol.sets, own, self.stream, kept, self._variant)

    def _new_temporary_store(self, trainer: Trainer, module: AbstractDetector) -> TemporaryStore | None:
        """Return where to keep what stream scores read of the images to predict, whose order is that of one stream."""
        if not module.stream_scores():
            return None
        if limited(trainer.limit_predict_batches):
            left_out(module, "not all images are predicted")
            return None
        if trainer.world_size > 1:
            raise MmoodError(
                f"model.scores has {', '.join(name for name, _ in module.stream_scores())}, which learns from all "
                f"images as one stream, but trainer.devices starts {trainer.world_size} processes; predict with one."
            )
        return TemporaryStore(_run_folder(trainer) / "features", len(data_module(trainer).predict_names()))

    def _write(self, folder: Path, results: Results, found: dict[str, SetScores]) -> None:
        with uninterrupted():
            if self.save_scores:
                for scores in found.values():
                    write_scores(folder, self.run, scores)
                results = replace(results, files=files_of_scores(folder, self.run))
            write_results(folder, results)
            leaves(results.stage, f"The results were written to {folder}.")


def say_constant(found: Mapping[str, SetScores], classes: int) -> None:
    """Say which scores tell no image from another, since a table shows them with an AUROC of 50."""
    if names := constant_scores(found.values()):
        reason = (
            "; they compare classes, but there is only one ID class; Energy and MaxLogit work with one"
            if classes == 1
            else ""
        )
        complain(
            f"These scores are the same for every image, so their numbers mean nothing: {', '.join(names)}{reason}."
        )


def check_precision(trainer: Trainer) -> None:
    """Raise MmoodError for a precision in which weights or scores would not be float32."""
    if trainer.precision in ("bf16-true", "16-true", "64-true"):
        raise MmoodError(
            f"trainer.precision is {trainer.precision}; weights and scores must stay float32; use 32-true, bf16-mixed "
            "or "
            "16-mixed."
        )


def detector(module: LightningModule) -> AbstractDetector:
    """Return the module as a detector, or say what the callback needs."""
    if not isinstance(module, AbstractDetector):
        raise MmoodError(f"OoDCallback evaluates an AbstractDetector, and {type(module).__name__} is not one.")
    return module


def data_module(trainer: Trainer) -> OoDDataModule:
    """Return the trainer's data module, or say what the callback needs."""
    module = getattr(trainer, "datamodule", None)
    if not isinstance(module, OoDDataModule):
        raise MmoodError("OoDCallback needs the sets of an OoDDataModule; pass one as `datamodule`.")
    return module


def _train_images(data: OoDDataModule) -> IdImages | None:
    """Return the ID training images; None without any, or where the set is not there: a test may do without."""
    with contextlib.suppress(MmoodError):
        return None if data.train is None else IdImages(data.catalog.index(data.train), data.train_keys())
    return None


def as_text(sample: Skipped) -> dict[str, object]:
    """Return a sample that was left out as plain data; a name that is no UTF-8 could not be written."""
    return {name: visible(value) if isinstance(value, str) else value for name, value in sample._asdict().items()}


def _run_folder(trainer: Trainer) -> Path:
    return Path(trainer.default_root_dir)
