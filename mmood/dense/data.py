"""The data of dense methods: sets whose samples have a mask, read as exactly as all others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

from lightning.pytorch import LightningDataModule

from mmood.classes.names import load_class_names
from mmood.data.catalog import ID_GROUP, Catalog, EvaluationSet, Member, check_not_empty
from mmood.dense.decoding import PairDecoder
from mmood.dense.labels import MaskLabels, mask_labels
from mmood.dense.transforms import Augmentation, PairTransform
from mmood.errors import MmoodError
from mmood.files import user_path
from mmood.loading.batch import Batch
from mmood.loading.loader import EvalLoader
from mmood.loading.position import TrainState
from mmood.loading.resumption import Resumption
from mmood.loading.settings import LoaderSettings
from mmood.loading.train import TrainLoader
from mmood.settings import check_count
from mmood.shards.locations import is_local

_LOADER = LoaderSettings()
_AUGMENTATION = Augmentation()
DenseStage = Literal["validate", "test"]


class DenseDataModule(LightningDataModule):
    """Sets of images with masks (`mask.png` beside the image, one byte a pixel), for training and evaluation.

    Args:
        root: folder or http(s) prefix with a folder for each set.
        label_names: a text file with the name of each label of the masks, one a line in the order of the numbers, or
            the names.
        ood_labels: labels whose pixels are OoD. They are never trained on; in a test they are what is to be found.
        ignore_labels: labels whose pixels count nowhere, such as void.
        train: the training set.
        val: the set that is evaluated between epochs.
        test: the test sets.
        image_size: (height, width) at which networks run and pixels are counted. Images are resized bilinearly, masks
            to the nearest.
        batch_size: images per batch and device.
        augmentation: what training does to an image and its mask.
        loader: workers, seed, behaviour on broken samples.
    """

    def __init__(
        self,
        root: str,
        label_names: str | list[str],
        ood_labels: list[int] | None = None,
        ignore_labels: list[int] | None = None,
        train: str | None = None,
        val: str | None = None,
        test: list[str] | None = None,
        image_size: tuple[int, int] = (360, 480),
        batch_size: int = 8,
        augmentation: Augmentation = _AUGMENTATION,
        loader: LoaderSettings = _LOADER,
    ) -> None:
        super().__init__()
        check_count("`data.batch_size`", batch_size)
        for side in image_size:
            check_count("`data.image_size`", side, least=32)
        self.root = str(user_path(root)) if is_local(root) else root
        self.labels: MaskLabels = mask_labels(load_class_names(label_names), ood_labels or (), ignore_labels or ())
        self.train = train
        self.val = val
        self.test = tuple(test or ())
        self.image_size = image_size
        self.batch_size = batch_size
        self.augmentation = augmentation
        self.loader = loader
        self.catalog = Catalog(self.root, loader.pipes)
        self._training: Resumption[TrainLoader] = Resumption()

    def __str__(self) -> str:
        """Return the root: Lightning would make every loader to print its size."""
        return f"{type(self).__name__}({self.root!r})"

    def check(self, stage: str | None = None) -> None:
        """Find the sets that a stage (fit, validate, test; all that are set by default) reads; no image is read.

        Raises:
            MmoodError: a set that the stage needs is not named, is missing or is empty.
        """
        wanted = []
        if stage == "fit" or (stage is None and self.train is not None):
            wanted.append(self._needed("train", self.train))
        if stage == "validate" or (stage in ("fit", None) and self.val is not None):
            wanted.append(self._needed("val", self.val))
        if stage == "test" or (stage is None and self.test):
            wanted += self._needed_tests()
        for index in self.catalog.indices(wanted).values():
            check_not_empty(index)

    def setup(self, stage: str) -> None:
        """Find the sets that the stage reads, and check them."""
        self.check(stage)

    def evaluation_sets(self, stage: DenseStage) -> dict[str, EvaluationSet]:
        """Return the sets of a stage by name, in the order of its loaders."""
        names = self._needed_tests() if stage == "test" else [self.val] if self.val is not None else []
        return self.catalog.evaluation_sets(Member(name, ID_GROUP, name) for name in names)

    def test_dataloader(self) -> dict[str, EvalLoader]:
        """Return the loader of each test set by name."""
        return {name: self._evaluation_loader(entry) for name, entry in self.evaluation_sets("test").items()}

    def val_dataloader(self) -> dict[str, EvalLoader]:
        """Return the loader of the validation set; none if `val` is unset."""
        return {name: self._evaluation_loader(entry) for name, entry in self.evaluation_sets("validate").items()}

    def train_dataloader(self) -> TrainLoader:
        """Return the training loader."""
        index = self.catalog.index(self._needed("train", self.train))
        decoder = self._decoder(self.augmentation)
        loader = TrainLoader(index, index.keys(), decoder, self.batch_size, self.loader, *self._rank_and_world())
        return self._training.of(loader)

    def training_images(self) -> Iterator[Batch]:
        """Yield this rank's share of the training images in order, under the evaluation transform.

        Raises:
            MmoodError: `data.train` is not set.
        """
        index = self.catalog.index(self._needed("train", self.train))
        settings, split = replace(self.loader, persistent=False), self._rank_and_world()
        yield from EvalLoader(index, index.keys(), self._decoder(None), self.batch_size, settings, *split)

    def state_dict(self) -> dict[str, TrainState]:
        """Return the position of the training loader."""
        return self._training.state_dict()

    def load_state_dict(self, state_dict: dict[str, TrainState]) -> None:
        """Set the position from which the training loader resumes; the loader need not exist yet."""
        self._training.load_state_dict(state_dict)

    def pixels(self, entry: EvaluationSet) -> int:
        """Return how many pixels a set has at the resolution of the evaluation."""
        return entry.count * self.image_size[0] * self.image_size[1]

    def _evaluation_loader(self, entry: EvaluationSet) -> EvalLoader:
        decoder = self._decoder(None)
        return EvalLoader(entry.index, entry.keys, decoder, self.batch_size, self.loader, *self._rank_and_world())

    def _decoder(self, augmentation: Augmentation | None) -> PairDecoder:
        return PairDecoder(PairTransform(self.image_size, augmentation), self.labels)

    def _needed(self, key: str, name: str | None) -> str:
        if name is None:
            raise MmoodError(f"`data.{key}` is not set; name a set with masks.")
        return name

    def _needed_tests(self) -> list[str]:
        if not self.test:
            raise MmoodError("`data.test` is not set; name one or more sets with masks.")
        return list(self.test)

    def _rank_and_world(self) -> tuple[int, int]:
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)
