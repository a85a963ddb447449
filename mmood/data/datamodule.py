"""The data module: sets of shards behind names, exact on one process and on a cluster."""

from __future__ import annotations

from typing import Literal, Protocol, runtime_checkable

import numpy as np
from lightning.pytorch import LightningDataModule

from mmood.classes.names import load_class_names
from mmood.data.benchmarks import check_count
from mmood.data.catalog import ID_GROUP, Catalog, EvaluationSet, Member, check_classes, members
from mmood.data.predict import PredictSet, find_predict_set
from mmood.data.settings import DataPlan, ValSettings, check_distinct, resolve
from mmood.encoders.base import ImageTransform
from mmood.errors import MmoodError
from mmood.features.access import FeatureAccess, ReadsFeatures, TrainsOnFeatures
from mmood.features.loader import FeatureLoader, FeatureTrainLoader
from mmood.features.store import StoredFeatures
from mmood.loading.loader import Decoder, EvalLoader
from mmood.loading.plan import held_out
from mmood.loading.position import TrainState
from mmood.loading.settings import LoaderSettings
from mmood.loading.train import TrainLoader
from mmood.shards.index import Keys, SetIndex
from mmood.shards.sources import SampleSource, ShardSource

__all__ = ["EvaluationSet", "EvaluationStage", "OoDDataModule", "TransformSource"]

EvaluationStage = Literal["validate", "test"]
EvaluationLoader = EvalLoader | FeatureLoader

_LOADER = LoaderSettings()
_NO_VAL = ValSettings()


@runtime_checkable
class TransformSource(Protocol):
    """A module that knows how images become its input."""

    def image_transform(self, train: bool) -> ImageTransform:
        """Return the evaluation transform, or the training transform."""


class OoDDataModule(LightningDataModule):
    """ID and OoD sets from shards.

    A set is a folder of tar shards with an `index.json`, made by `mmood pack`, below `root`.

    Args:
        root: folder, http(s) prefix, or `pipe:` command with `{}` for the path, that holds the sets.
        benchmark: a known benchmark (imagenet-mos, imagenet-openood, cifar10, cifar100); fills `id`, `ood` and
            `class_names` where they are unset.
        id: the ID test set.
        ood: OoD test sets: group -> names of sets.
        train: the training set.
        val: what is evaluated between epochs: a set or a fraction of `train` as ID, and groups of OoD sets.
        predict: a set, a folder of images or one image, for `predict`.
        class_names: name of a list, a text file with one name a line, or the names of the ID classes.
        batch_size: images per batch and device.
        loader: workers, seed, behaviour on broken samples.
        features: stored features in place of images: `auto` reads those of the cache that fit, `off` none, a folder
            those in it, which must fit; `mmood embed` makes them. Scores that need patches read images in any case.
    """

    def __init__(
        self,
        root: str,
        benchmark: str | None = None,
        id: str | None = None,
        ood: dict[str, list[str]] | None = None,
        train: str | None = None,
        val: ValSettings = _NO_VAL,
        predict: str | None = None,
        class_names: str | list[str] | None = None,
        batch_size: int = 256,
        loader: LoaderSettings = _LOADER,
        features: str = "auto",
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise MmoodError(f"`data.batch_size` is {batch_size}; it must be at least 1.")
        if isinstance(val.id, float) and not 0 < val.id < 1:
            raise MmoodError(f"`data.val.id` is {val.id}; a fraction of `data.train` lies between 0 and 1.")
        check_distinct("data.val", val.id if isinstance(val.id, str) else None, val.ood or {})
        self.root = root
        self.train = train
        self.val = val
        self.predict = predict
        self.batch_size = batch_size
        self.loader = loader
        self.plan: DataPlan = resolve(benchmark, id, ood, class_names)
        self.features = features
        self.catalog = Catalog(root, loader.pipes)
        self._features = FeatureAccess(features, batch_size, loader)
        # What scores were fitted on, for the provenance: shots and transform -> identity.
        self.banks: dict[tuple[int | None, str], dict[str, object]] = {}
        self._train_loader: TrainLoader | FeatureTrainLoader | None = None
        self._resume_at: TrainState | None = None

    def setup(self, stage: str) -> None:
        """Find every set that the stage (fit, validate, test, predict) reads, and check it; no image is read."""
        if stage == "predict":
            self._predict_set()
        else:
            self.check(stage)

    def check(self, stage: str | None = None) -> None:
        """Check the sets of a stage (fit, validate, test; all that are set by default) without reading an image.

        Raises:
            MmoodError: sets are missing (all of them in one sentence, with where to get known ones), an ID set has no
                labels, the classes do not fit the class names, or a known set has another size than its protocol.
        """
        wanted = []
        if stage == "fit" or (stage is None and self.train is not None):
            wanted.append(Member("train", ID_GROUP, self._train_name()))
        if stage == "validate" or (stage in ("fit", None) and self._validates()):
            wanted += self._members("validate")
        if stage == "test" or (stage is None and self.plan.id is not None):
            wanted += self._members("test")
        indices = self.catalog.indices(member.set for member in wanted)
        class_names = self._class_names()
        for member in wanted:
            if member.group == ID_GROUP:
                check_classes(indices[member.set], class_names)
            check_count(member.set, indices[member.set].count)

    def all_sets(self) -> dict[str, SetIndex]:
        """Return the index of every set that the settings name for training, validation and test."""
        names = [] if self.train is None else [self.train]
        names += [member.set for member in self._members("validate")] if self._validates() else []
        names += [member.set for member in self._members("test")] if self.plan.id is not None else []
        return self.catalog.indices(names)

    def evaluation_sets(self, stage: EvaluationStage) -> dict[str, EvaluationSet]:
        """Return the sets of a stage in the order of its loaders, the ID set first."""
        return self.catalog.evaluation_sets(self._members(stage))

    def test_dataloader(self) -> dict[str, EvaluationLoader]:
        """Return the loader of each test set by name."""
        return self._evaluation_loaders("test", persistent=False)

    def val_dataloader(self) -> dict[str, EvaluationLoader]:
        """Return the loader of each validation set by name; none if `val` is unset."""
        if not self._validates():
            return {}
        return self._evaluation_loaders("validate", persistent=self.loader.persistent)

    def train_dataloader(self) -> TrainLoader | FeatureTrainLoader:
        """Return the training loader over `train`, without what `val.id` holds out; a probe chooses its own rows."""
        loader = self._train_loader = self._new_train_loader()
        if self._resume_at is not None:
            loader.load_state_dict(self._resume_at)
            self._resume_at = None
        return loader

    def _new_train_loader(self) -> TrainLoader | FeatureTrainLoader:
        module: object = None if self.trainer is None else self.trainer.lightning_module
        if isinstance(module, TrainsOnFeatures):
            return FeatureTrainLoader(module.training_rows(), self.loader.seed, *self._rank_and_world())
        index = self.catalog.index(self._train_name())
        decoder = Decoder(self._transform(train=True), self._classes(index))
        return TrainLoader(index, self.train_keys(), decoder, self.batch_size, self.loader, *self._rank_and_world())

    def state_dict(self) -> dict[str, TrainState]:
        """Return where the training loader stands.

        Lightning keeps it too, but gives it back only to loaders that it makes after it has read the checkpoint. Where
        a schedule asks for the number of steps, it makes them before, and the epoch would begin again.
        """
        return {} if self._train_loader is None else {"train": self._train_loader.state_dict()}

    def load_state_dict(self, state_dict: dict[str, TrainState]) -> None:
        """Let the training loader go on where a checkpoint stands; it need not be made yet."""
        if self._train_loader is None:
            self._resume_at = state_dict.get("train")
        elif "train" in state_dict:
            self._train_loader.load_state_dict(state_dict["train"])

    def train_features(self, augment: bool = False) -> StoredFeatures:
        """Return the stored features of all of `train`; encoded now, by all ranks, if no store has them.

        Args:
            augment: of images under the training transform, seeded by `loader.seed`.
        """
        index = self.catalog.index(self._train_name())
        self._classes(index)
        return self._features.encoded(index, self.trainer, self.loader.seed if augment else None)

    def validation_features(self) -> tuple[StoredFeatures, Keys]:
        """Return the stored features of the ID validation set and the keys that are meant, encoded now if need be.

        Raises:
            MmoodError: `val.id` is not set.
        """
        if self.val.id is None:
            raise MmoodError("`data.val.id` is not set; name a set or a fraction of `data.train` to choose on.")
        (entry,) = self.catalog.evaluation_sets(members(self.val.id, {}, self.train)).values()
        self._classes(entry.index)
        return self._features.encoded(entry.index, self.trainer), entry.keys

    def evaluation_features(self, stage: EvaluationStage) -> dict[str, StoredFeatures]:
        """Return the stored features of each set of a stage by name, empty sets left out; every rank must call this.

        Row i is key i of the set, whichever keys are evaluated. They are encoded now, by all ranks, if no store has
        them; under `features: off` they lie in the run folder until `discard_features`.
        """
        entries = self.evaluation_sets(stage)
        return self._features.on_disk({name: e.index for name, e in entries.items() if e.index.count}, self.trainer)

    def discard_features(self) -> None:
        """Delete the features that were stored for this evaluation alone; every rank must call this."""
        if self.trainer is not None:
            self._features.discard(self.trainer)

    def reference_dataloader(self, keys: Keys | None = None, augment: bool = False) -> EvalLoader:
        """Return a loader that reads training samples once, in order, with labels: for banks of features.

        Args:
            keys: which samples, ascending; None for all that training may use.
            augment: use the training transform; its randomness is then the process's own.
        """
        index = self.catalog.index(self._train_name())
        decoder = Decoder(self._transform(train=augment), self._classes(index))
        return self._loader(ShardSource(index), self.train_keys() if keys is None else keys, decoder)

    def train_keys(self) -> Keys:
        """Return the keys of `train` that training may use, ascending: all but those that `val.id` holds out."""
        keys = self.catalog.index(self._train_name()).keys()
        if not isinstance(self.val.id, float):
            return keys
        return np.setdiff1d(keys, held_out(keys, self.val.id), assume_unique=True)

    def predict_dataloader(self) -> EvalLoader:
        """Return the loader over what `predict` names; labels are -1."""
        found = self._predict_set()
        return self._loader(found.source, found.keys(), Decoder(self._transform(train=False), classes=None))

    def predict_names(self) -> list[str]:
        """Return for each key of `predict` the image's file, or its name in the shard."""
        return self._predict_set().names

    def _evaluation_loaders(self, stage: EvaluationStage, persistent: bool) -> dict[str, EvaluationLoader]:
        transform = self._transform(train=False)
        loaders: dict[str, EvaluationLoader] = {}
        entries = self.evaluation_sets(stage)
        module: object = None if self.trainer is None else self.trainer.lightning_module
        if isinstance(module, ReadsFeatures) and module.runs_streams():
            # So that no image is read twice: these stores serve the steps as well, unless a score needs patches.
            stores = self.evaluation_features(stage) if module.reads_stored_features() else {}
        else:
            stores = self._features.stored({name: entry.index for name, entry in entries.items()}, self.trainer)
        for name, entry in entries.items():
            classes = self._classes(entry.index) if entry.group == ID_GROUP else None
            if name in stores:
                labelled, split = entry.group == ID_GROUP, self._rank_and_world()
                loaders[name] = FeatureLoader(stores[name], entry.keys, labelled, self.batch_size, *split)
                continue
            decoder = Decoder(transform, classes)
            loaders[name] = self._loader(ShardSource(entry.index), entry.keys, decoder, persistent)
        return loaders

    def _loader(self, source: SampleSource, keys: Keys, decoder: Decoder, persistent: bool = False) -> EvalLoader:
        rank, world = self._rank_and_world()
        return EvalLoader(source, keys, decoder, self.batch_size, self.loader, rank, world, persistent)

    def _members(self, stage: EvaluationStage) -> list[Member]:
        if stage == "validate":
            return members(self.val.id, self.val.ood or {}, self.train)
        if self.plan.id is None:
            raise MmoodError("`data.id` is not set; name the ID test set or a `data.benchmark`.")
        return members(self.plan.id, self.plan.ood, self.train)

    def _validates(self) -> bool:
        return self.val.id is not None or bool(self.val.ood)

    def _train_name(self) -> str:
        if self.train is None:
            raise MmoodError("`data.train` is not set; name the training set.")
        return self.train

    def _predict_set(self) -> PredictSet:
        if self.predict is None:
            raise MmoodError("`data.predict` is not set; name a set, a folder of images or one image.")
        return find_predict_set(self.root, self.predict, self.loader.pipes)

    def _class_names(self) -> tuple[str, ...] | None:
        return None if self.plan.class_names is None else load_class_names(self.plan.class_names)

    def _classes(self, index: SetIndex) -> int:
        """Return below which number every label of an ID set must be."""
        class_names = self._class_names()
        check_classes(index, class_names)
        assert index.classes is not None, "checked above"
        return index.classes if class_names is None else len(class_names)

    def _transform(self, train: bool) -> ImageTransform:
        module: object = None if self.trainer is None else self.trainer.lightning_module
        if not isinstance(module, TransformSource):
            raise MmoodError(
                f"{type(module).__name__} has no `image_transform(train)`, so the data do not know how to prepare "
                "images; derive the module from mmood's base module."
            )
        return module.image_transform(train)

    def _rank_and_world(self) -> tuple[int, int]:
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)
