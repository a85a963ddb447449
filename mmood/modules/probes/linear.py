"""Linear probing: a supervised linear head on frozen features."""

from __future__ import annotations

from typing import Any, final

import torch
from jaxtyping import Float
from lightning.pytorch import Callback
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor

from mmood.encoders import EncodedImages, EncoderSettings, load_templates
from mmood.features.loader import TrainingRows
from mmood.loading.batch import Batch
from mmood.modules.base import AbstractDetector
from mmood.modules.optimisation import ScheduleCallable, ShareWarmupCosine
from mmood.modules.probes.head import GridSettings
from mmood.modules.probes.probe import build_probe
from mmood.modules.probes.training import (
    ProbeSettings,
    chooses,
    chosen,
    epoch_ends,
    optimisation,
    probe_state,
    training_rows,
)
from mmood.modules.reference import ModelReference
from mmood.modules.training_monitor import TrainingMonitor
from mmood.scores.base import AbstractScore, Reference, Stored

_TRAINING = ProbeSettings()
_ONE_HEAD = GridSettings()


@final
class LinearProbe(AbstractDetector):
    """Trains a linear head on standardised features with true labels (the linear probing of arXiv 2303.05828).

    The features come from the feature store, encoded first where it lacks them; the encoder is never trained.

    Warning:
        PLP's code scales the learning rate with the batch and then overwrites it, so its peak is 1e-3 at any
        batch size; so it is here. Features are standardised by the statistics of the training set, not
        normalised.

    Args:
        encoder: an encoder of any kind, image-only ones too.
        class_names: ID classes: the name of a list, a text file with one name a line, or the names.
        scores: name in the results -> score; they read the head's logits.
        prompts: templates of text prototypes, for scores that compare with texts.
        training: batch size, shots and seed.
        reads: `features` before the projection, as PLP does, or the joint `embedding`.
        grid: heads with other learning rates, weight decays and kinds of rows in the same run;
            chosen by accuracy on `data.val.id`.
        optimizer: from the parameters to their optimiser; PLP's is Adam with coupled weight decay.
        schedule: from the optimiser and the number of steps to the learning rate of each step.
    """

    def __init__(
        self,
        encoder: EncoderSettings,
        class_names: str | list[str],
        scores: dict[str, AbstractScore],
        prompts: str | list[str] = "a photo of a {}",
        training: ProbeSettings = _TRAINING,
        reads: Stored = "features",
        grid: GridSettings = _ONE_HEAD,
        optimizer: OptimizerCallable = lambda parameters: torch.optim.Adam(parameters, lr=1e-3, weight_decay=1e-3),
        schedule: ScheduleCallable = lambda optimizer, steps: ShareWarmupCosine(optimizer, steps, share=0.1),
    ) -> None:
        super().__init__(encoder, class_names, scores)
        self.encoder.requires_grad_(False)
        self.templates = load_templates(prompts)
        self.training_settings = training
        self.grid = grid
        self.optimizer = optimizer
        self.schedule = schedule
        self.probe = build_probe(self.encoder, len(self.class_names), reads, grid, training.seed or 0)

    def logits(self, encoded: EncodedImages) -> Float[Tensor, "batch classes"]:
        """Return the head's logits."""
        logits: Tensor = self.probe(encoded)
        return logits

    def reference(self) -> Reference:
        """Return the ID classes, the training images and the head."""
        return ModelReference(self.encoder, self.class_names, self.templates, self.probe.linear_heads(), self.provider)

    def trained_state(self) -> dict[str, Tensor]:
        """Return head and standardisation."""
        return probe_state(self.probe)

    def details(self) -> dict[str, object]:
        """Return the prompt templates, with named sets resolved, and the chosen head."""
        return {"prompts": list(self.templates), "chosen": chosen(self.probe, self.grid)}

    def training_rows(self) -> TrainingRows:
        """Return the stored training images with their labels; the head learns their mean and variance."""
        store, keys = self.id_features().train()
        return training_rows(
            self.probe, self.probe.outputs(store), keys, store.label[keys], self.training_settings, self.class_names
        )

    def monitors(self) -> list[Callback]:
        """Return the callback that logs the training."""
        return [TrainingMonitor()]

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return the optimiser of the heads and its schedule."""
        return optimisation(self.probe, self.grid, self.optimizer, self.schedule, self.trainer)

    def on_fit_start(self) -> None:
        """Keep the encoder as it is: BatchNorm must not learn."""
        self.encoder.eval()
        if chooses(self.probe):
            # Encoded now if need be, rather than between two epochs.
            self.id_features().validation()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the mean cross-entropy of the batch, in float32."""
        with torch.autocast(self.device.type, enabled=False):
            return self.probe.loss(batch)

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Choose the head by its accuracy on the ID validation set, before anything is evaluated or saved."""
        if chooses(self.probe) and epoch_ends(self.trainer):
            store, keys = self.id_features().validation()
            self.probe.choose(self.probe.outputs(store), keys, store.label[keys])
