"""What modules with a score for every pixel share: outputs of a batch, maps of all scores, what a checkpoint holds."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.nn.functional import interpolate

from mmood.classes.names import load_class_names
from mmood.dense.functional import Moments
from mmood.dense.scores import AbstractDenseScore, DenseOutputs, DenseReference
from mmood.dense.transforms import split
from mmood.errors import MmoodError
from mmood.loading.batch import Batch
from mmood.metrics.gather import summed
from mmood.modules.training_record import checkpoint_record, training_record
from mmood.scores.base import Reference
from mmood.settings import Recorded
from mmood.shards.hashes import digest

CLASSES = "mmood_classes"
"""Where a checkpoint keeps the names of its classes."""

TrainingImages = Callable[[], Iterator[Batch]]
"""Passes over this rank's share of the ID training images under the evaluation transform."""


@contextlib.contextmanager
def step_seed(device: torch.device, *numbers: int) -> Iterator[None]:
    """Seed the global generators of torch, of which dropout draws, by these numbers; afterwards they are as before.

    So a training step draws the same whether the run was interrupted before it or not.
    """
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(digest(*numbers))
        yield


@dataclass(frozen=True)
class DenseEvaluated:
    """A batch with the scores of its pixels.

    Attributes:
        key: (B,) index of each image in its set.
        targets: (B, H, W) class of each pixel, or `OOD` or `IGNORED` (`mmood.dense.labels`).
        predicted: (B, H, W) ID class with the largest logit.
        maps: (S, B, H, W) float32, a map for each score, higher = more in-distribution.
    """

    key: Int64[Tensor, " batch"]
    targets: Int64[Tensor, "batch height width"]
    predicted: Int64[Tensor, "batch height width"]
    maps: Float[Tensor, "scores batch height width"]


class AbstractDenseDetector(Recorded, LightningModule, ABC):
    """A LightningModule whose evaluation steps score pixels. It reports nothing: `DenseCallback` does.

    Args:
        class_names: names of the ID classes of pixels.
        scores: name in the results -> score.

    Attributes:
        training_images: passes over this rank's share of the training images; None where the run names none.
        trained_with: how the weights of the loaded checkpoint were trained; None if none was loaded.
    """

    def __init__(self, class_names: str | list[str], scores: Mapping[str, AbstractDenseScore]) -> None:
        super().__init__()
        self.class_names = load_class_names(class_names)
        self.scores = nn.ModuleDict(dict(scores))
        self.training_images: TrainingImages | None = None
        self.trained_with: dict[str, object] | None = None
        self._moments: Moments | None = None

    @abstractmethod
    def outputs(self, images: Float[Tensor, "batch 3 height width"]) -> DenseOutputs:
        """Return the outputs of a batch in float32, at the resolution of the images or below."""

    def texts(self) -> Reference | None:
        """Return what scores of images may know, for a module with texts; by default there is none."""
        return None

    @property
    def score_names(self) -> tuple[str, ...]:
        """The names of the scores, in the order of the maps."""
        return tuple(name for name, _ in self.named_scores())

    def named_scores(self) -> list[tuple[str, AbstractDenseScore]]:
        """Return all scores with their names, in the order of the settings."""
        return [(name, score) for name, score in self.scores.items() if isinstance(score, AbstractDenseScore)]

    def own_record(self) -> dict[str, object]:
        """Return settings and details besides class names and scores, of which there are records elsewhere."""
        return {name: value for name, value in self.record().items() if name not in ("class_names", "scores")}

    def evaluate(self, batch: Batch) -> DenseEvaluated:
        """Return a batch with the maps of all scores, computed in float32 outside autocast."""
        images, targets = split(batch["image"])
        outputs = self.outputs(images)
        with torch.autocast(self.device.type, enabled=False):
            maps = [score(outputs).float() for _, score in self.named_scores()]
        batch_size, _, *size = outputs.logits.shape
        stacked = torch.stack(maps) if maps else outputs.logits.new_empty((0, batch_size, *size))
        predicted = enlarged(outputs.logits, targets).argmax(dim=1)
        return DenseEvaluated(batch["key"], targets, predicted, enlarged(stacked, targets))

    def fit_scores(self) -> None:
        """Fit every score with the weights of this moment."""
        self._moments = None
        with torch.inference_mode(False), torch.no_grad():
            for _, score in self.named_scores():
                score.fit(DenseReference(self._of_training, self.texts()))

    def on_validation_start(self) -> None:
        """Fit the scores with the weights of this moment."""
        self.fit_scores()

    def on_test_start(self) -> None:
        """Fit the scores with the weights of this moment."""
        self.fit_scores()

    # Lightning hands on whatever a step returns, though its types know tensors and mappings alone.
    def validation_step(  # type: ignore[override]
        self, batch: Batch, batch_idx: int, dataloader_idx: int = 0
    ) -> DenseEvaluated:
        """Return a batch of a validation set with its maps."""
        return self.evaluate(batch)

    def test_step(  # type: ignore[override]
        self, batch: Batch, batch_idx: int, dataloader_idx: int = 0
    ) -> DenseEvaluated:
        """Return a batch of a test set with its maps."""
        return self.evaluate(batch)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the classes, which the weights do not tell, and how they are trained."""
        checkpoint[CLASSES] = list(self.class_names)
        checkpoint["mmood_training"] = training_record(self)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of other classes or with other tensors than those of this module."""
        check_classes(checkpoint, self.class_names, "The checkpoint")
        stored, own = checkpoint["state_dict"], self.state_dict()
        odd = sorted(
            name
            for name in stored.keys() | own.keys()
            if name not in stored or name not in own or stored[name].shape != own[name].shape
        )
        if odd:
            raise MmoodError(
                f"The checkpoint does not hold the weights of this {type(self).__name__}: '{odd[0]}' is missing or has "
                "another shape; name the network and the classes that it was trained with."
            )
        self.trained_with = checkpoint_record(checkpoint)

    def _of_training(self) -> Moments:
        """Return the moments of the largest logit of each predicted class over the training images of all ranks."""
        if self._moments is None:
            if self.training_images is None:
                names = [name for name, score in self.named_scores() if type(score).fit is not AbstractDenseScore.fit]
                raise MmoodError(f"`data.train` is not set, but the score {names[0]} learns from the training images.")
            self._moments = Moments(len(self.class_names))
            for batch in self.training_images():
                images, targets = split(batch["image"].to(self.device))
                top, predicted = self.outputs(images).logits.max(dim=1)
                seen = targets >= 0
                self._moments.add(top[seen], predicted[seen])
            self._moments.sums = summed(self._moments.sums, self.device)
        return self._moments


def check_classes(checkpoint: Mapping[str, Any], class_names: Sequence[str], what: str) -> None:
    """Raise MmoodError if a checkpoint names other classes, or these in another order; `what` begins the sentence."""
    stored = checkpoint.get(CLASSES)
    if not isinstance(stored, list):
        raise MmoodError(f"{what} does not name its classes; name one that a dense run wrote.")
    if stored != list(class_names):
        raise MmoodError(
            f"{what} was trained on the classes {_listed(stored)}, but `data.label_names`, `data.ood_labels` and "
            f"`data.ignore_labels` leave {_listed(class_names)}; set them as in the training."
        )


def _listed(names: Sequence[object]) -> str:
    return f"{', '.join(map(str, names)):.200}"


def enlarged(maps: Float[Tensor, "a b h w"], targets: Int64[Tensor, "batch height width"]) -> Float[Tensor, "a b H W"]:
    """Return maps at the resolution of the targets, interpolated bilinearly."""
    size = tuple(targets.shape[1:])
    if tuple(maps.shape[2:]) == size or not maps.numel():
        return maps.new_empty((*maps.shape[:2], *size)) if not maps.numel() else maps
    return interpolate(maps, size, mode="bilinear", align_corners=False)
