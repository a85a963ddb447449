"""The evaluation of dense methods: exact metrics of pixels and of images, shown, logged and written."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import LightningModule, Trainer

from mmood.data.catalog import EvaluationSet
from mmood.dense.data import DenseDataModule, DenseStage
from mmood.dense.detector import AbstractDenseDetector, DenseEvaluated
from mmood.dense.functional import Pooling, pooled
from mmood.dense.labels import OOD
from mmood.dense.overlays import WorstImages
from mmood.dense.pixel_store import PixelStore
from mmood.dense.provenance import dense_provenance
from mmood.dense.rows import dense_rows, detail_lines, details
from mmood.errors import MmoodError
from mmood.evaluation.callback import as_text, check_precision, say_constant
from mmood.evaluation.each_batch import EachBatch
from mmood.evaluation.maps import MAPS
from mmood.evaluation.overlap import IdImages, find_trained_on
from mmood.evaluation.rows import logged_values
from mmood.evaluation.store import ScoreStore
from mmood.files import write_atomically
from mmood.metrics.gather import gathered_objects
from mmood.modules.base import limited
from mmood.output.console import console
from mmood.output.printing import say
from mmood.results.model import IdRow, Overlap, Results, build_results
from mmood.results.serialisation import write_results
from mmood.results.tables import to_rich
from mmood.runs.run_files import run_id
from mmood.runs.signals import leaves, uninterrupted
from mmood.settings import check_choice, check_count, check_number
from mmood.shards.reading import Skipped

EXACT_PIXELS = 2**26


class DenseCallback(EachBatch):
    """Evaluates maps of scores against masks, exactly on any number of ranks: every image is counted once.

    Pixels are pooled over a set, never averaged over its images. Rows of a set come under its name and a convention:
    `SET: pixels` compares pixels of ID classes with OoD pixels; `SET: errors` compares pixels of ID classes that are
    predicted correctly with those that are not; `SET: images` compares images without and with an OoD pixel by a score
    pooled over all their pixels: also those of ignored labels, which nobody would know of a new image.

    Args:
        show: print the table at the end of an evaluation.
        exact_pixels: sets with at most so many pixels keep the score of each (4 bytes a pixel and score); of larger
            ones only counts are kept, in bins of relative width 0.05 %, and the largest error of the AUROC is stated.
        pooling: how the score of an image comes from those of its pixels: `max` of the uncertainty, the mean over the
            `top_share` of the most uncertain ones, or their `quantile`.
        pooled_share: that share of the pixels.
        smallest_component: predicted components of fewer pixels do not count; 500 in SegmentMeIfYouCan's anomaly track.
        save_maps: write the maps of so many images of each set, those that look most like OoD, as pictures and arrays.
        overlap: in a test of trained weights, count the images of each set that are exact copies of training images.
    """

    def __init__(
        self,
        show: bool = True,
        exact_pixels: int = EXACT_PIXELS,
        pooling: Pooling = "top_share",
        pooled_share: float = 0.01,
        smallest_component: int = 1,
        save_maps: int = 0,
        overlap: bool = True,
    ) -> None:
        check_count("`evaluation.exact_pixels`", exact_pixels, least=0)
        check_choice("`evaluation.pooling`", pooling, ("max", "top_share", "quantile"))
        check_number("`evaluation.pooled_share`", pooled_share, above=0, most=1)
        check_count("`evaluation.smallest_component`", smallest_component)
        check_count("`evaluation.save_maps`", save_maps, least=0)
        self.show = show
        self.exact_pixels = exact_pixels
        self.pooling = pooling
        self.pooled_share = pooled_share
        self.smallest_component = smallest_component
        self.save_maps = save_maps
        self.overlap = overlap
        self._sets: dict[str, EvaluationSet] = {}
        self._pixels: dict[str, PixelStore] = {}
        self._images: dict[str, ScoreStore] = {}
        self._worst: dict[str, WorstImages] = {}
        self._skipped: list[tuple[str, Skipped]] = []
        self._overlaps: list[Overlap] = []
        self._run = ""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse the precisions in which weights and scores would not be float32; give the scores the training images.

        Raises:
            MmoodError: the precision is one of those, or module and data are not dense.
        """
        check_precision(trainer)
        module, data = dense_detector(pl_module), dense_data(trainer)
        module.training_images = None if data.train is None else data.training_images

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the stores of the validation set."""
        if trainer.state.fn == "validate":
            self._run = run_id(trainer, "validate")
        self._open(trainer, dense_detector(pl_module), "validate")

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the stores of every test set."""
        self._run = run_id(trainer, "test")
        module = dense_detector(pl_module)
        self._open(trainer, module, "test")
        whole = not limited(trainer.limit_test_batches)
        if self.overlap and whole and module.trained_with is not None and trainer.is_global_zero:
            data, quiet = dense_data(trainer), trainer.progress_bar_callback is None
            self._overlaps = _trained_on(data, self._sets, quiet)

    def take(self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, dataloader_idx: int) -> None:
        """Store a batch."""
        evaluated: DenseEvaluated = outputs
        name = list(self._sets)[dataloader_idx]
        self._pixels[name].add(evaluated)
        flat = evaluated.maps.flatten(0, 1)
        shape = (len(evaluated.maps), len(evaluated.key))
        rows = pooled(flat, self.pooling, self.pooled_share).view(shape).T if len(flat) else flat.new_empty(shape).T
        with_ood = (evaluated.targets == OOD).flatten(1).any(dim=1)
        label = (~with_ood).long() - 1  # 0 for an ID image, -1 for one with an OoD pixel
        self._images[name].update(evaluated.key, label, label, rows)
        self._worst[name].add(evaluated, batch, rows)
        for sample in batch.get("skipped", []):
            self._skipped.append((name, sample))
            self._images[name].skip(evaluated.key.new_tensor([sample.key]))

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the metrics; `mmood validate` also writes them."""
        partial = trainer.sanity_checking or limited(trainer.limit_val_batches)
        self._report(trainer, dense_detector(pl_module), "fit" if trainer.state.fn == "fit" else "validate", partial)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log, show and write the metrics."""
        self._report(trainer, dense_detector(pl_module), "test", limited(trainer.limit_test_batches))

    def _open(self, trainer: Trainer, module: AbstractDenseDetector, stage: DenseStage) -> None:
        data = dense_data(trainer)
        self._sets, self._skipped = data.evaluation_sets(stage), []
        names, log_odds = module.score_names, tuple(score.log_odds for _, score in module.named_scores())
        self._pixels = {
            name: PixelStore(names, len(module.class_names), data.pixels(entry) <= self.exact_pixels, log_odds)
            for name, entry in self._sets.items()
        }
        self._images = {name: ScoreStore(name, names).to(module.device) for name in self._sets}
        self._worst = {name: WorstImages(self.save_maps) for name in self._sets}

    def _report(self, trainer: Trainer, module: AbstractDenseDetector, stage: str, partial: bool) -> None:
        # Every rank enters every gather, in the order of the sets.
        images = {
            name: store.gathered(None if partial else self._sets[name].keys) for name, store in self._images.items()
        }
        for store in self._pixels.values():
            store.gather(module.device)
        for worst in self._worst.values():
            worst.gather()
        found = {name: store.metrics() for name, store in self._pixels.items()}
        skipped = gathered_objects(self._skipped)
        settings = {"pooling": self.pooling, "pooled_share": self.pooled_share, "exact_pixels": self.exact_pixels}
        results = build_results(
            run=self._run or None,
            stage=stage,
            id_rows=[
                IdRow(set=name, n=len(images[name].key), accuracy=_accuracy(self._pixels[name])) for name in images
            ],
            rows=[row for name in images for row in dense_rows(name, found[name], images[name])],
            provenance=dense_provenance(trainer, module, dense_data(trainer), self._sets, settings),
            skipped=[{"set": name, **as_text(sample)} for name, sample in skipped],
            partial=partial,
            overlap=self._overlaps if stage == "test" else (),
        )
        # A mean over conventions would mean nothing.
        results = replace(results, means=tuple(mean for mean in results.means if mean.group != "all"))
        module.log_dict(_logged(results), add_dataloader_idx=False, rank_zero_only=False)
        if not trainer.is_global_zero or trainer.sanity_checking:
            return
        say_constant(images, len(module.class_names))
        if stage != "fit":
            smallest = self.smallest_component if stage == "test" else None
            self._show_and_write(trainer, module, results, details(self._pixels, found, module.class_names, smallest))

    def _show_and_write(
        self, trainer: Trainer, module: AbstractDenseDetector, results: Results, found: dict[str, Any]
    ) -> None:
        if not results.partial:
            folder = Path(trainer.default_root_dir)
            with uninterrupted():
                write_results(folder, results)
                text = json.dumps({"run": results.run, **found}, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
                write_atomically(folder / "dense.json", text.encode())
                for name, worst in self._worst.items():
                    worst.write(folder / MAPS / name, module.score_names, self._run)
                leaves(results.stage, f"The results were written to {folder}.")
        if self.show:
            console().print(to_rich(results))
            for line in detail_lines(found):
                say(line)
        if not results.partial:
            say(f"Results: {Path(trainer.default_root_dir)}")


def dense_detector(module: LightningModule) -> AbstractDenseDetector:
    """Return the module as a dense detector, or say what the callback needs."""
    if not isinstance(module, AbstractDenseDetector):
        raise MmoodError(f"DenseCallback evaluates an AbstractDenseDetector, and {type(module).__name__} is not one.")
    return module


def dense_data(trainer: Trainer) -> DenseDataModule:
    """Return the trainer's data module, or say what the callback needs."""
    data = getattr(trainer, "datamodule", None)
    if not isinstance(data, DenseDataModule):
        raise MmoodError("DenseCallback needs the sets of a DenseDataModule; pass one as `datamodule`.")
    return data


def _trained_on(data: DenseDataModule, sets: Mapping[str, EvaluationSet], quiet: bool) -> list[Overlap]:
    """Return which test images are training images; nothing where these are not there: a test may do without."""
    with contextlib.suppress(MmoodError):
        if data.train is not None:
            index = data.catalog.index(data.train)
            train = IdImages(index, index.keys())
            return find_trained_on(sets, train, data.loader.on_error == "skip", quiet)
    return []


def _accuracy(pixels: PixelStore) -> float | None:
    total = int(pixels.confusion.sum())
    return float(np.trace(pixels.confusion) / total) if total else None


def _logged(results: Results) -> dict[str, float]:
    """Return what loggers get, under names without the blanks and colons of rows."""
    return {name.replace(": ", "_"): value for name, value in logged_values(results).items()}
