"""The features of a run: read from a store where one fits, made where a module asks for them."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Protocol, runtime_checkable

from lightning.pytorch import Trainer

from mmood.encoders.base import AbstractEncoder
from mmood.errors import MmoodError
from mmood.features.encoding import Ranks, SetEncoder
from mmood.features.loader import TrainingRows
from mmood.features.store import StoredFeatures, store_name
from mmood.features.stores import OFF, FeatureStores
from mmood.loading.settings import LoaderSettings
from mmood.shards.index import SetIndex

MOST_IMAGES = 256
"""Images of a device that are encoded at a time, at most: the batches of a probe are far larger."""


@runtime_checkable
class ReadsFeatures(Protocol):
    """A module for which stored features may stand in place of images."""

    encoder: AbstractEncoder

    def reads_stored_features(self) -> bool:
        """Return whether its steps take stored features now."""

    def encoder_changes(self) -> bool:
        """Return whether the run trains the encoder, so that features are those of this moment only."""

    def runs_streams(self) -> bool:
        """Return whether scores are evaluated now that read all images of a set in an order of their own."""


@runtime_checkable
class TrainsOnFeatures(Protocol):
    """A module that is trained on stored features, and says on which."""

    def training_rows(self) -> TrainingRows:
        """Return the features to train on, with their targets."""


class FeatureAccess:
    """The features of the sets of a run.

    Args:
        setting: `data.features`.
        batch_size: images per batch and device.
        loader: workers that decode images.
    """

    def __init__(self, setting: str, batch_size: int, loader: LoaderSettings) -> None:
        self.stores = FeatureStores(setting)
        self.batch_size = min(batch_size, MOST_IMAGES)
        self.loader = loader
        self._held: dict[tuple[str, int | None], tuple[str, StoredFeatures]] = {}

    def encoder(self, trainer: Trainer, augment_seed: int | None = None) -> SetEncoder:
        """Return what makes stores with the encoder of the trainer's module.

        Raises:
            MmoodError: the module has no encoder.
        """
        module: object = trainer.lightning_module
        if not isinstance(module, ReadsFeatures):
            raise MmoodError(f"{type(module).__name__} has no image encoder; derive it from mmood's base module.")
        quiet = trainer.progress_bar_callback is None
        return SetEncoder(module.encoder, Ranks.of(trainer), self.batch_size, self.loader, augment_seed, quiet)

    def stored(self, indices: Mapping[str, SetIndex], trainer: Trainer | None) -> dict[str, StoredFeatures]:
        """Return the stores to read in place of images, by name; of a set without one, the images are to be read.

        Raises:
            MmoodError: `data.features` names a folder without a store that fits.
        """
        module: object = None if trainer is None else trainer.lightning_module
        if trainer is None or not isinstance(module, ReadsFeatures) or not module.reads_stored_features():
            return {}
        encoder = self.encoder(trainer)
        known = {name: index for name, index in indices.items() if self.stores.knows(index)}
        found = {name: self.stores.find(index, encoder.identity(index)) for name, index in known.items()}
        return {name: store for name, store in found.items() if store is not None}

    def on_disk(self, indices: Mapping[str, SetIndex], trainer: Trainer | None) -> dict[str, StoredFeatures]:
        """Return the features of sets by name, memory-mapped; encoded now if no store has them. All ranks must call.

        What is encoded goes into the cache; under `data.features: off` into the run folder, until `discard`.

        Raises:
            MmoodError: there is no trainer, or `data.features` names a folder without a store that fits.
        """
        if trainer is None:
            raise MmoodError("There is no run that could encode images; use the module in a Trainer.")
        encoder, found = self.encoder(trainer), {}
        for name, index in indices.items():
            identity = encoder.identity(index)
            own = _run_features(trainer) / store_name(index, identity, "fp32")
            folder = own if self.stores.setting == OFF else self.stores.folder(index, identity, "fp32")
            found[name] = self.stores.find(index, identity) or encoder.encode(index, folder)
        return found

    def discard(self, trainer: Trainer) -> None:
        """Delete what `on_disk` left in the run folder; every rank must call this."""
        trainer.strategy.barrier()
        if self.stores.setting == OFF and trainer.is_global_zero:
            shutil.rmtree(_run_features(trainer), ignore_errors=True)

    def encoded(self, index: SetIndex, trainer: Trainer | None, augment_seed: int | None = None) -> StoredFeatures:
        """Return the features of a set, after encoding it if no store has them; every rank must call this.

        They are kept in the cache, under `data.features: off` or while the encoder is trained only in memory.

        Raises:
            MmoodError: there is no trainer, or `data.features` names a folder without a store that fits.
        """
        if trainer is None:
            raise MmoodError("There is no run that could encode images; use the module in a Trainer.")
        encoder = self.encoder(trainer, augment_seed)
        identity = encoder.identity(index)
        module: object = trainer.lightning_module
        fleeting = self.stores.setting == OFF or (isinstance(module, ReadsFeatures) and module.encoder_changes())
        if not fleeting:
            folder = self.stores.folder(index, identity, "fp32")
            return self.stores.find(index, identity) or encoder.encode(index, folder)
        name, key = store_name(index, identity, "fp32"), (index.hash, augment_seed)
        if key not in self._held or self._held[key][0] != name:
            self._held.pop(key, None)
            folder = _run_features(trainer) / name
            self._held[key] = (name, _in_memory(encoder, index, folder))
        return self._held[key][1]


def _run_features(trainer: Trainer) -> Path:
    return Path(trainer.default_root_dir) / "features"


def _in_memory(encoder: SetEncoder, index: SetIndex, folder: Path) -> StoredFeatures:
    """Return the features of a set, and leave nothing in the folder."""
    mapped = encoder.encode(index, folder)
    embedding = None if mapped.embedding is None else mapped.embedding.clone()
    held = replace(mapped, features=mapped.features.clone(), embedding=embedding, label=mapped.label.clone())
    encoder.ranks.barrier()
    if encoder.ranks.rank == 0:
        shutil.rmtree(folder)
    return held
