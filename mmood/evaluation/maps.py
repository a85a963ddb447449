"""The maps of local scores, as files: an array for each set, and on request a picture of each image."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, final

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer

from mmood.errors import MmoodError
from mmood.evaluation.callback import OoDCallback, data_module, detector
from mmood.evaluation.each_batch import EachBatch
from mmood.evaluation.map_pictures import Pictures
from mmood.evaluation.store import ScoreStore, SetScores
from mmood.files import write_atomically
from mmood.images.maps import value_range
from mmood.images.rgb import Exif
from mmood.modules.base import AbstractDetector, limited
from mmood.output.printing import say
from mmood.results.arrays import arrays_bytes
from mmood.runs.signals import uninterrupted
from mmood.scores.local import AbstractLocalScore
from mmood.settings import check_choice
from mmood.shards.sources import SampleSource

MAPS = "maps"
"""The folder of a run for maps."""

Files = Literal["none", "npz", "png"]


@final
class LocalMaps(EachBatch):
    """Writes the maps of local scores (GLMCM, LMCM): the score of each patch of each image.

    `maps/<set>.npz` has `key` and for each local score an array (images, rows, columns) on the scale of the score's
    `patch_scores`; in a prediction the set is `predict`. Partial tests write nothing.

    Args:
        files: `none`; `npz` for the arrays; `png` for them and for each image as a picture with its map laid over it,
            `maps/<set>/<key>-<name>.<score>.png`. The images are read again for that, and the colours of all sets span
            the values of the ID set (of all images, in a prediction) from the 2nd to the 98th percentile.
    """

    def __init__(self, files: Files = "none") -> None:
        check_choice("maps.files", files, ("none", "npz", "png"))
        self.files = files
        self._stores: dict[str, ScoreStore] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse maps that no score has, and maps of several weights, whose files would be the same.

        Raises:
            MmoodError: see above; or the tower gives no patches.
        """
        if not self._writes(trainer):
            return
        if not _local_scores(detector(pl_module)):
            raise MmoodError(
                f"`maps.files` is {self.files}, but no score in model.scores has a map; add GLMCM or LMCM."
            )
        if _evaluation(trainer).variants.names:
            raise MmoodError("`maps.files` is for one set of weights; give `model.weight_interpolation` one value.")
        encoder = detector(pl_module).encoder
        encoder.patch_grid()
        if self.files == "png":
            encoder.preprocessing.seen(encoder.image_size)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open a store for every validation set."""
        self._open(trainer, pl_module, list(data_module(trainer).evaluation_sets("validate")))

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open a store for every test set."""
        self._open(trainer, pl_module, list(data_module(trainer).evaluation_sets("test")))

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open a store for the images to predict."""
        self._open(trainer, pl_module, ["predict"])

    def take(self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, dataloader_idx: int) -> None:
        """Store the maps of a batch."""
        if not self._stores:
            return
        scored, scores = outputs.scored, _local_scores(detector(module)).values()
        with torch.autocast(module.device.type, enabled=False):
            maps = torch.cat([score.patch_scores(outputs.embedded) for score in scores], dim=1)
        store = list(self._stores.values())[dataloader_idx]
        store.update(scored.key, scored.label, scored.predicted, maps)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the maps of the validation sets."""
        if self._stores and not limited(trainer.limit_val_batches):
            self._write_sets(trainer, pl_module, "validate")

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the maps of the test sets."""
        if self._stores and not limited(trainer.limit_test_batches):
            self._write_sets(trainer, pl_module, "test")

    def on_predict_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the maps of the predicted images."""
        if self._stores:
            data = data_module(trainer)
            self._write(trainer, pl_module, {"predict": data.predict_set().source}, data.exif or "apply")

    def _writes(self, trainer: Trainer) -> bool:
        return self.files != "none" and trainer.state.fn in ("test", "validate", "predict")

    def _open(self, trainer: Trainer, module: LightningModule, sets: list[str]) -> None:
        self._stores = {}
        if not self._writes(trainer):
            return
        rows, columns = detector(module).encoder.patch_grid()
        names = [f"{name}, patch {at}" for name in _local_scores(detector(module)) for at in range(rows * columns)]
        self._stores = {name: ScoreStore(name, names).to(module.device) for name in sets}

    def _write_sets(self, trainer: Trainer, module: LightningModule, stage: Literal["validate", "test"]) -> None:
        data = data_module(trainer)
        sources = {name: entry.index for name, entry in data.evaluation_sets(stage).items()}
        self._write(trainer, module, sources, data.exif or "ignore")

    def _write(
        self, trainer: Trainer, module: LightningModule, sources: Mapping[str, SampleSource], exif: Exif
    ) -> None:
        owner, folder, run = detector(module), Path(trainer.default_root_dir) / MAPS, _evaluation(trainer).run
        # Every rank enters every gather, in the order of the sets.
        gathered = {name: store.gathered() for name, store in self._stores.items()}
        self._stores = {}
        maps = {name: _by_score(found, owner) for name, found in gathered.items()}
        if trainer.is_global_zero:
            with uninterrupted():
                for name, found in gathered.items():
                    write_atomically(folder / f"{name}.npz", arrays_bytes({"key": found.key, **maps[name]}, run))
        if self.files == "png":
            limits = {score: value_range(values) for score, values in next(iter(maps.values())).items()}
            share = slice(trainer.global_rank, None, trainer.world_size)
            for name, found in gathered.items():
                own = {score: values[share] for score, values in maps[name].items()}
                pictures = Pictures(folder / name, owner.encoder.preprocessing, limits, exif)
                pictures.write(sources[name], found.key[share], own)
        if trainer.is_global_zero:
            say(f"Maps: {folder}")


def _evaluation(trainer: Trainer) -> OoDCallback:
    """Return the callback whose run the maps belong to."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, OoDCallback):
            return callback
    raise MmoodError("LocalMaps writes into the run of an OoDCallback; give the Trainer both callbacks.")


def _local_scores(module: AbstractDetector) -> dict[str, AbstractLocalScore]:
    return {name: score for name, score in module.static_scores() if isinstance(score, AbstractLocalScore)}


def _by_score(found: SetScores, module: AbstractDetector) -> dict[str, np.ndarray[Any, Any]]:
    rows, columns = module.encoder.patch_grid()
    names = list(_local_scores(module))
    whole = found.scores.reshape(len(found.key), len(names), rows, columns)
    return {name: np.ascontiguousarray(whole[:, number]) for number, name in enumerate(names)}
