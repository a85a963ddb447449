"""The data module: sets behind names, exact on one process and on a cluster."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Literal

import numpy as np
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities import rank_zero_only

from mmood.classes.matching import Classes
from mmood.data.benchmarks import check_sample_count
from mmood.data.catalog import (
    ID_GROUP,
    Catalog,
    EvaluationSet,
    Member,
    check_classes,
    check_not_empty,
    has_labels,
    joined_classes,
    members,
)
from mmood.data.class_names import ClassNames, classes_without_images
from mmood.data.consumer import Consumer
from mmood.data.corruptions import Corruptions, check_groups
from mmood.data.predict import PredictSet, find_predict_set
from mmood.data.protocols import ProtocolSets, TestedSets
from mmood.data.settings import DataPlan, ValSettings, check_sets, resolve
from mmood.encoders.base import ImageTransform
from mmood.encoders.transforms import KeyedTransform
from mmood.errors import MmoodError
from mmood.features.encoding import Encoding
from mmood.features.loader import FeatureLoader, FeatureTrainLoader
from mmood.features.provider import FeatureProvider, LabelledSet
from mmood.features.stores import FeatureStores
from mmood.features.views import drawn_keys
from mmood.files import user_path
from mmood.images.corruption import Corruption
from mmood.images.preprocessing import Resize
from mmood.images.rgb import Exif
from mmood.loading.loader import Decoder, EvalLoader
from mmood.loading.plan import held_out
from mmood.loading.position import TrainState
from mmood.loading.resumption import Resumption
from mmood.loading.settings import LoaderSettings
from mmood.loading.train import TrainLoader
from mmood.output.printing import complain
from mmood.runs.open_files import make_room
from mmood.sets.places import set_name
from mmood.settings import check_choice, check_count, check_number
from mmood.shards.index import Keys, SetIndex
from mmood.shards.locations import is_local
from mmood.shards.sources import SampleSource

__all__ = ["Consumer", "EvaluationSet", "EvaluationStage", "OoDDataModule"]

EvaluationStage = Literal["validate", "test"]
EvaluationLoader = EvalLoader | FeatureLoader

_LOADER = LoaderSettings()
_NO_VAL = ValSettings()


class OoDDataModule(LightningDataModule):
    """ID and OoD sets.

    A set is the name of a folder below `root`, of tar shards with an `index.json` (made by `mmood pack`) or of images;
    or a path: `folder:PATH`, `zip:PATH`, `list:PATH` (an image list), or any path with a slash. `NAME=` in front of a
    path names the set in the results. Below a folder of images, subfolders are classes.

    Args:
        root: folder, http(s) prefix, or `pipe:` command with `{}` for the path, that holds the sets.
        benchmark: a known benchmark (imagenet-mos, imagenet-openood, cifar10, cifar100); fills `id`, `ood` and
            `class_names` where they are unset. A list of several is tested in one pass, in which every image is encoded
            once; each benchmark gets its own results.
        id: the ID test set.
        ood: OoD test sets: group -> sets.
        csid: covariate-shifted ID test sets, such as ImageNet-R: they count as ID in rows `id+csid` beside the others.
        train: the training set.
        val: what is evaluated between epochs: a set or a fraction of `train` as ID, and groups of OoD sets.
        predict: for `predict`: an image, a folder, a pattern such as `photos/*.jpg`, a list of images (`.txt`,
            `.json`), several of these, a zip file, or a set.
        class_names: name of a list, a text file with one name a line, or the names of the ID classes; by default those
            of the ID set, where it names its classes.
        batch_size: images per batch and device.
        loader: workers, seed, behaviour on broken samples.
        features: stored features in place of images: `auto` reads those of the cache that fit, `off` none, a folder
            those in it, which must fit; `mmood embed` makes them. Scores that need patches read images in any case.
        exif: whether images are turned as their cameras noted: `apply` or `ignore`; by default `apply` for `predict`,
            and `ignore` for everything else, as in the papers.
        resize: what resizes images for evaluation and stores: `pillow`, as the papers' code does, or `torch`, with
            which decoding and transforming native-size images takes 0.6 of the time; pixels differ by at most 3 of 255.
        corruption: one of ImageNet-C's corruptions on the images of validation and test, made as they are read.
    """

    def __init__(
        self,
        root: str = "data",
        benchmark: str | list[str] | None = None,
        id: str | None = None,
        ood: dict[str, list[str]] | None = None,
        csid: list[str] | None = None,
        train: str | None = None,
        val: ValSettings = _NO_VAL,
        predict: str | list[str] | None = None,
        class_names: str | list[str] | None = None,
        batch_size: int = 256,
        loader: LoaderSettings = _LOADER,
        features: str = "auto",
        exif: Exif | None = None,
        resize: Resize = "pillow",
        corruption: Corruption | None = None,
    ) -> None:
        super().__init__()
        check_choice("`data.resize`", resize, ("pillow", "torch"))
        check_count("`data.batch_size`", batch_size)
        if not isinstance(val.id, str):
            check_number("`data.val.id`", val.id, above=0, below=1, null="no ID validation")
        check_sets("data.val", val.id if isinstance(val.id, str) else None, val.ood or {})
        self.root = str(user_path(root)) if is_local(root) else root
        self.train = train
        self.val = val
        self.predict = predict
        self.batch_size = batch_size
        self.loader = loader
        self.plan: DataPlan = resolve(benchmark, id, ood, class_names, train, csid)
        check_groups(corruption, self.plan, val)
        self.corruptions = Corruptions(corruption, self._evaluated)
        self.features = features
        self.exif: Exif | None = exif
        self.resize: Resize = resize
        tested = [name for of, _, shifted in self.plan.tests() for name in (of, *shifted)]
        named = [name for name in (*tested, train, val.id) if isinstance(name, str)]
        given = self.plan.class_names
        self.catalog = Catalog(self.root, loader.pipes, named, given)
        self.classes = ClassNames(given, self.catalog, named, benchmark if class_names is None else None)
        self.tested = TestedSets(self.plan, train, self.catalog, loader.on_error == "skip")
        self._consumer: Consumer | None = None
        self._said: set[str] = set()
        self._found: tuple[str | list[str], PredictSet] | None = None
        self._training: Resumption[TrainLoader | FeatureTrainLoader] = Resumption()

    def connect(self, consumer: Consumer) -> None:
        """Read the data for this model from now on; a detector in a Trainer does this by itself."""
        self._consumer = consumer

    def provider(self, encoding: Encoding) -> FeatureProvider:
        """Return the provider of the features of these sets; sets are found and checked on first use."""
        stores = FeatureStores(self.features)
        return FeatureProvider(
            encoding,
            stores,
            self.batch_size,
            self.loader,
            self.exif or "ignore",
            self._labelled_train,
            self._labelled_validation,
            self.corruptions.of,
        )

    def setup(self, stage: str) -> None:
        """Find every set that the stage (fit, validate, test, predict) reads, and check it; no image is read."""
        make_room(self.loader.workers, self.loader.prefetch)
        predicts = stage == "predict"
        self._say([self.predict_set().passed_over, self.classes.of_benchmark()] if predicts else self.check(stage))

    def check(self, stage: str | None = None) -> list[str]:
        """Check the sets of a stage (fit, validate, test; all that are set by default) without reading an image.

        Returns what the user should know of their classes, a sentence each.

        Raises:
            MmoodError: sets are missing (all of them in one sentence, with where to get known ones) or empty, an ID set
                has no labels, the classes are not those of the class names or in another order, or a known set has
                another size than its protocol.
        """
        wanted = []
        if stage == "fit" or (stage is None and self.train is not None):
            wanted.append(Member("train", ID_GROUP, self.train_name()))
        if stage == "validate" or (stage in ("fit", None) and self._validates()):
            wanted += self._members("validate")
        if stage == "test" or (stage is None and self.plan.id is not None):
            wanted += self._members("test")
        indices = self.catalog.indices(member.set for member in wanted)
        class_names = self.classes.find()
        notes = [note for index in indices.values() for note in index.notes]
        notes += filter(None, [self.classes.note()])
        for member in wanted:
            index = indices[member.set]
            check_not_empty(index)
            if has_labels(member.group, index) and (note := check_classes(index, class_names)):
                notes.append(note)
            check_sample_count(index.name, index.count)
        return notes

    def id_classes(self) -> dict[str, Classes]:
        """Return for each ID set that knows its classes which folder or name is which of the class names."""
        named = [name for name in (self.train, self.val.id, self.plan.id, *self.plan.csid) if isinstance(name, str)]
        class_names = self.classes.find()
        joined = {name: joined_classes(index, class_names) for name, index in self.catalog.indices(named).items()}
        return {set_name(name): classes for name, classes in joined.items() if classes is not None}

    def all_sets(self) -> dict[str, SetIndex]:
        """Return the index of every set for training, validation and test, by what the settings call it."""
        names = [] if self.train is None else [self.train]
        return self.catalog.indices([*names, *(member.set for member in self._evaluated())])

    def _evaluated(self) -> list[Member]:
        """Return the sets of validation and test."""
        found = self._members("validate") if self._validates() else []
        return found + (self._members("test") if self.plan.id is not None else [])

    def evaluation_sets(self, stage: EvaluationStage) -> dict[str, EvaluationSet]:
        """Return the sets of a stage that are read, in the order of its loaders, the ID set first.

        Of several benchmarks, sets that are parts of others are left out; see `protocols`.
        """
        if stage != "test":
            return self.catalog.evaluation_sets(self._members(stage))
        self._members(stage)
        return self.tested.read()

    def id_set(self, stage: EvaluationStage) -> EvaluationSet:
        """Return the ID set of a stage; its OoD sets need not be there.

        Raises:
            MmoodError: it is not set or not there, or several benchmarks have several ID sets.
        """
        members = [member for member in self._members(stage) if member.group == ID_GROUP]
        return self.tested.whole(self.catalog.evaluation_sets(members))

    def protocols(self, stage: EvaluationStage) -> list[ProtocolSets]:
        """Return the sets of each benchmark of a stage, as it groups them."""
        if stage != "test":
            return [ProtocolSets(None, self.evaluation_sets(stage), {})]
        found = self.tested.protocols()
        self._say(self.tested.notes)
        return found

    def test_dataloader(self) -> dict[str, EvaluationLoader]:
        """Return the loader of each test set by name."""
        return self._evaluation_loaders("test", persistent=False)

    def val_dataloader(self) -> dict[str, EvaluationLoader]:
        """Return the loader of each validation set by name; none if `val` is unset."""
        return self._evaluation_loaders("validate", persistent=self.loader.persistent) if self._validates() else {}

    def train_dataloader(self) -> TrainLoader | FeatureTrainLoader:
        """Return the training loader over `train`, without what `val.id` holds out; a probe chooses its own rows."""
        return self._training.of(self._new_train_loader())

    def _new_train_loader(self) -> TrainLoader | FeatureTrainLoader:
        few = None if self._consumer is None else self._consumer.few_shot()
        if few is not None:
            self._say(self._lacking(few.shots))
        rows = None if self._consumer is None else self._consumer.training_rows()
        if rows is not None:
            return FeatureTrainLoader(rows, self.loader.seed or 0, *self._rank_and_world())
        index = self.catalog.index(self.train_name())
        classes = self._classes(index)
        if few is not None:
            keys, ranks = drawn_keys(index, self.train_keys(), few), self._rank_and_world()
            decoder, size = self._decoder(few.transform, classes), few.of_a_rank(len(keys), ranks[1])
            return TrainLoader(index, keys, decoder, size, self.loader, *ranks, hold=True)
        self._say(self._lacking(None))
        decoder = self._decoder(self._transform(train=True), classes)
        return TrainLoader(index, self.train_keys(), decoder, self.batch_size, self.loader, *self._rank_and_world())

    def _lacking(self, shots: int | None) -> list[str]:
        """Return what the user should know of classes with too few images to train on."""
        index = self.catalog.index(self.train_name())
        return classes_without_images(index, self.train_keys(), self.classes.find() or (), shots)

    def state_dict(self) -> dict[str, TrainState]:
        """Return the position of the training loader."""
        return self._training.state_dict()

    def load_state_dict(self, state_dict: dict[str, TrainState]) -> None:
        """Set the position from which the training loader resumes; the loader need not exist yet."""
        self._training.load_state_dict(state_dict)

    def reference_dataloader(self, keys: Keys | None = None, augment: bool = False) -> EvalLoader:
        """Return a loader that reads training samples once, in order, with labels: for banks of features.

        Args:
            keys: which samples, ascending; None for all that training may use.
            augment: use the training transform; its randomness is then the process's own.
        """
        index = self.catalog.index(self.train_name())
        decoder = self._decoder(self._transform(train=augment), self._classes(index))
        return self._loader(index, self.train_keys() if keys is None else keys, decoder)

    def train_keys(self) -> Keys:
        """Return the keys of `train` that training may use, ascending: all but those that `val.id` holds out."""
        keys = self.catalog.index(self.train_name()).keys()
        if not isinstance(self.val.id, float):
            return keys
        return np.setdiff1d(keys, held_out(keys, self.val.id), assume_unique=True)

    def predict_dataloader(self) -> EvalLoader:
        """Return the loader over the images of `predict`; labels are -1.

        An image that cannot be read is left out with its reason, whatever `loader.on_error` says: it must not cost the
        others.
        """
        found = self.predict_set()
        decoder = Decoder(self._transform(train=False), None, self.exif or "apply")
        settings = replace(self.loader, on_error="skip")
        return EvalLoader(found.source, found.keys(), decoder, self.batch_size, settings, *self._rank_and_world())

    def predict_names(self) -> list[str]:
        """Return for each key of `predict` the image's file, or its name in the shard."""
        return self.predict_set().names

    def _evaluation_loaders(self, stage: EvaluationStage, persistent: bool) -> dict[str, EvaluationLoader]:
        transform = self._transform(train=False)
        loaders: dict[str, EvaluationLoader] = {}
        entries = self.evaluation_sets(stage)
        indices = {name: entry.index for name, entry in entries.items()}
        stores = {} if self._consumer is None else self._consumer.stored_features(indices)
        for name, entry in entries.items():
            classes = self._classes(entry.index) if has_labels(entry.group, entry.index) else None
            if name in stores:
                split = self._rank_and_world()
                loaders[name] = FeatureLoader(stores[name], entry.keys, classes is not None, self.batch_size, *split)
                continue
            decoder = self._decoder(transform, classes, self.corruptions.keyed(name, transform))
            loaders[name] = self._loader(entry.index, entry.keys, decoder, persistent)
        return loaders

    def _loader(self, source: SampleSource, keys: Keys, decoder: Decoder, persistent: bool = False) -> EvalLoader:
        rank, world = self._rank_and_world()
        return EvalLoader(source, keys, decoder, self.batch_size, self.loader, rank, world, persistent)

    def _decoder(self, transform: ImageTransform, classes: int | None, keyed: KeyedTransform | None = None) -> Decoder:
        return Decoder(transform, classes, self.exif or "ignore", keyed)

    def _members(self, stage: EvaluationStage) -> list[Member]:
        if stage == "validate":
            return members(self.val.id, self.val.ood or {}, self.train)
        if self.plan.id is None:
            raise MmoodError("`data.id` is not set; name the ID test set or a `data.benchmark`.")
        return self.tested.members()

    def _validates(self) -> bool:
        return self.val.id is not None or bool(self.val.ood)

    def train_name(self) -> str:
        """Return the name of the training set; MmoodError if there is none."""
        if self.train is None:
            raise MmoodError("`data.train` is not set; name the training set.")
        return self.train

    def predict_set(self) -> PredictSet:
        """Return the images of `predict`; MmoodError if it is not set or names nothing."""
        if self.predict is None:
            raise MmoodError("`data.predict` is not set; name images, a folder of images, a list of images or a set.")
        if self._found is None or self._found[0] != self.predict:
            self._found = (self.predict, find_predict_set(self.root, self.predict, self.loader.pipes))
        return self._found[1]

    def _say(self, notes: Iterable[str]) -> None:
        """Print each note once in a run."""
        for note in notes:
            if note and note not in self._said:
                self._said.add(note)
                rank_zero_only(complain)(note)

    def _classes(self, index: SetIndex) -> int:
        """Return below which number every label of an ID set must be."""
        class_names = self.classes.find()
        check_classes(index, class_names)
        assert index.classes is not None, "checked above"
        return index.classes if class_names is None else len(class_names)

    def _labelled_train(self) -> LabelledSet:
        index = self.catalog.index(self.train_name())
        self._classes(index)
        return LabelledSet(index.name, index, self.train_keys())

    def _labelled_validation(self) -> LabelledSet:
        if self.val.id is None:
            raise MmoodError("`data.val.id` is not set; name a set, or a fraction of `data.train` to hold out.")
        (entry,) = self.catalog.evaluation_sets(members(self.val.id, {}, self.train)).values()
        self._classes(entry.index)
        return LabelledSet(entry.name, entry.index, entry.keys)

    def _transform(self, train: bool) -> ImageTransform:
        if self._consumer is None:
            raise MmoodError(
                "OoDDataModule has no `image_transform` to prepare images with; run it in a Trainer with one of "
                "mmood's detectors, or give it the model with `connect`."
            )
        return self._consumer.image_transform(train)

    def _rank_and_world(self) -> tuple[int, int]:
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)
