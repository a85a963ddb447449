"""Pseudo-label probing (PLP): a linear head on frozen features, trained on the labels that zero-shot gives."""

from __future__ import annotations

from typing import Any, final

import torch
from jaxtyping import Float, Int
from lightning.pytorch import Callback
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.nn import functional

from mmood.encoders import EncodedImages, EncoderSettings, load_templates
from mmood.encoders.vision_language import VisionLanguageEncoder
from mmood.features.loader import TrainingRows
from mmood.features.store import StoredFeatures
from mmood.loading.batch import Batch
from mmood.modules.base import AbstractDetector
from mmood.modules.optimisation import ScheduleCallable, ShareWarmupCosine
from mmood.modules.probes.head import ROWS, GridSettings
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
from mmood.modules.reference import ModelReference, text_prototypes
from mmood.modules.training_monitor import TrainingMonitor
from mmood.scores.base import AbstractScore, Reference, Stored
from mmood.settings import check_number

_TRAINING = ProbeSettings()
_ONE_HEAD = GridSettings()


@final
class PseudoLabelProbe(AbstractDetector):
    """Trains a linear head on standardised features with zero-shot pseudo-labels: PLP (arXiv 2303.05828).

    The pseudo-label of a training image is the class whose text prototype is nearest to its embedding; its true label
    is never read, neither for the grid. The encoder is never trained.

    Warning:
        It learns the mistakes of the zero-shot model, so look at the zero-shot accuracy first. Every pseudo-label is
        kept, as in the paper's code; there is no threshold of confidence.

    Args:
        encoder: a vision-language model.
        class_names: ID classes: the name of a list, a text file with one name a line, or the names.
        scores: name in the results -> score; they read the head's logits.
        prompts: templates of the text prototypes.
        confidence: train only on images whose zero-shot probability (at the model's logit scale) is at least this;
            None keeps all, as the paper's code does.
        training: batch size, shots (drawn by pseudo-label) and seed.
        reads: `features` before the projection, as PLP does, or the joint `embedding`.
        grid: heads with other learning rates, weight decays and kinds of rows in the same run;
            chosen by agreement with the pseudo-labels of `data.val.id`.
        optimizer: from the parameters to their optimiser; PLP's is Adam with coupled weight decay.
        schedule: from the optimiser and the number of steps to the learning rate of each step.
    """

    def __init__(
        self,
        encoder: EncoderSettings,
        class_names: str | list[str],
        scores: dict[str, AbstractScore],
        prompts: str | list[str] = "plp",
        confidence: float | None = None,
        training: ProbeSettings = _TRAINING,
        reads: Stored = "features",
        grid: GridSettings = _ONE_HEAD,
        optimizer: OptimizerCallable = lambda parameters: torch.optim.Adam(parameters, lr=1e-3, weight_decay=1e-3),
        schedule: ScheduleCallable = lambda optimizer, steps: ShareWarmupCosine(optimizer, steps, share=0.1),
    ) -> None:
        super().__init__(encoder, class_names, scores)
        check_number("`model.confidence`", confidence, above=0, below=1, null="all images")
        self.encoder.requires_grad_(False)
        self.templates = load_templates(prompts)
        self.confidence = confidence
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
        """Return the ID classes, the training images with their pseudo-labels, and the head."""
        heads = self.probe.linear_heads()
        return ModelReference(self.encoder, self.class_names, self.templates, heads, self.provider, self._labels)

    def trained_state(self) -> dict[str, Tensor]:
        """Return head and standardisation."""
        return probe_state(self.probe)

    def details(self) -> dict[str, object]:
        """Return the prompt templates, with named sets resolved, and the chosen head."""
        return {"prompts": list(self.templates), "chosen": chosen(self.probe, self.grid)}

    def training_rows(self) -> TrainingRows:
        """Return the stored training images with their pseudo-labels; the head learns their mean and variance."""
        store, keys = self.id_features().train()
        targets, confidence = self._pseudo_labels(store, keys)
        if self.confidence is not None:
            sure = confidence >= self.confidence
            keys, targets = keys[sure], targets[sure]
        return training_rows(
            self.probe, self.probe.outputs(store), keys, targets, self.training_settings, self.class_names
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
        """Choose the head by its agreement with the pseudo-labels of the ID validation set."""
        if chooses(self.probe) and epoch_ends(self.trainer):
            store, keys = self.id_features().validation()
            self.probe.choose(self.probe.outputs(store), keys, self._labels(store, keys))

    def _labels(self, store: StoredFeatures, keys: Tensor) -> Tensor:
        return self._pseudo_labels(store, keys)[0]

    def _pseudo_labels(self, store: StoredFeatures, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Return pseudo-labels and confidences of these rows."""
        prototypes = text_prototypes(self.encoder, self.class_names, self.templates)
        assert isinstance(self.encoder, VisionLanguageEncoder)
        assert store.embedding is not None
        return pseudo_labels(store.embedding, keys, prototypes, self.encoder.logit_scale.detach())


@torch.no_grad()
def pseudo_labels(
    embedding: Float[Tensor, "images dim"],
    keys: Int[Tensor, " rows"],
    prototypes: Float[Tensor, "classes dim"],
    logit_scale: Float[Tensor, ""],
) -> tuple[Int[Tensor, " rows"], Float[Tensor, " rows"]]:
    """Return argmax_c cos(x, t_c) of each row, and max_c softmax(logit_scale cos(x, t_c)), on the CPU.

    >>> found = pseudo_labels(torch.eye(2), torch.tensor([1, 0]), torch.eye(2), torch.tensor(0.0))
    >>> found[0].tolist(), found[1].tolist()
    ([1, 0], [0.5, 0.5])
    """
    labels, confidences = [], []
    for chunk in torch.split(keys, ROWS):
        cosines = functional.normalize(embedding[chunk].to(prototypes.device).float(), dim=1) @ prototypes.T
        labels.append(cosines.argmax(dim=1).cpu())
        confidences.append((logit_scale * cosines).softmax(dim=1).amax(dim=1).cpu())
    return torch.cat(labels), torch.cat(confidences)
