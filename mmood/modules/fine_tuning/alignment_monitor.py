"""What fine-tuning does to the embeddings: how those of the validation images lie."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from mmood.losses import alignment, modality_gap, uniformity
from mmood.metrics.gather import gathered


@runtime_checkable
class AlignsTowers(Protocol):
    """A module that trains an image and a text tower together."""

    @property
    def prototypes(self) -> Tensor:
        """(C, D) text prototypes of the latest evaluation."""

    @property
    def logit_scale(self) -> Tensor:
        """The factor of the cosines, already exponentiated."""


class AlignmentMonitor(Callback):
    """Logs the logit scale of each step, and the geometry of the embeddings of ID validation images.

    `val/alignment` (mean squared distance of an image to the prototype of its class), `val/uniformity_image`,
    `val/uniformity_text` and `val/modality_gap` are those of `mmood.losses`. Only images with a label count.

    Args:
        images: how many images of each rank are looked at, the first ones; uniformity compares them all in pairs.
    """

    def __init__(self, images: int = 4096) -> None:
        self.images = images
        self._embeddings: list[Tensor] = []
        self._labels: list[Tensor] = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log the logit scale."""
        pl_module.log("train/logit_scale", _module(pl_module).logit_scale.detach())

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin again."""
        self._embeddings, self._labels = [], []

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the embeddings of labelled images."""
        embedding = outputs.embedded.embedding
        assert embedding is not None, "an encoder with a text tower has embeddings"
        room = self.images - sum(map(len, self._labels))
        labelled = (batch["label"] >= 0).nonzero().squeeze(1)[: max(0, room)]
        self._embeddings.append(embedding[labelled])
        self._labels.append(batch["label"][labelled])

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the geometry."""
        prototypes = _module(pl_module).prototypes
        device = pl_module.device
        embeddings = gathered(self._embeddings, prototypes.new_empty(0, prototypes.shape[1]), device).to(device)
        labels = gathered(self._labels, torch.empty(0, dtype=torch.int64), device).to(device)
        if len(labels) < 2 or trainer.sanity_checking:
            return
        values = {
            "val/alignment": alignment(embeddings, prototypes[labels]),
            "val/uniformity_image": uniformity(embeddings),
            "val/uniformity_text": uniformity(prototypes),
            "val/modality_gap": modality_gap(embeddings, prototypes),
        }
        pl_module.log_dict(values, add_dataloader_idx=False, rank_zero_only=False)


def _module(module: object) -> AlignsTowers:
    assert isinstance(module, AlignsTowers)
    return module
