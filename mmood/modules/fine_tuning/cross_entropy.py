"""Cross-entropy fine-tuning of an image tower with a linear head: the baselines FFT and LP-FT."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import final

import torch
from jaxtyping import Float
from lightning.pytorch import Callback
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.strategies import Strategy
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn import functional

from mmood.encoders import EncodedImages, EncoderSettings, load_templates
from mmood.encoders.vision_language import with_texts
from mmood.encoders.weights import named_weights
from mmood.errors import MmoodError
from mmood.loading.batch import Batch
from mmood.modules.base import AbstractDetector
from mmood.modules.fine_tuning.execution import Execution, check_exact, prepare, sharded
from mmood.modules.fine_tuning.gradient_cache import in_chunks
from mmood.modules.fine_tuning.measuring import StepMemoryNote, image_pass, measured, memory_note
from mmood.modules.fine_tuning.trained import TrainedTowers, parameter_groups, select_image_tower, training_mode
from mmood.modules.optimisation import ScheduleCallable, WarmupCosine, stepped
from mmood.modules.probes.probe import stored_probe
from mmood.modules.reference import ModelReference, text_prototypes
from mmood.modules.training_monitor import TrainingMonitor
from mmood.runs.checkpoints import read_checkpoint
from mmood.scores.base import AbstractScore, LinearHead, Reference, Stored


@dataclass(frozen=True)
class HeadSettings:
    """The linear head.

    Attributes:
        start: `random`, `zero-shot` (the text prototypes times the logit scale, which needs `reads: embedding`), or a
            checkpoint with a trained head: linear probing, then fine-tuning is LP-FT (arXiv 2202.10054).
        reads: `features` before the projection, or the unit-norm `embedding`.
    """

    start: str = "random"
    reads: Stored = "features"


_HEAD = HeadSettings()
_TRAINED = TrainedTowers(towers="image")
_EXECUTION = Execution()


@final
class CrossEntropyFineTune(AbstractDetector):
    """Trains image tower and linear head with cross-entropy (FFT); from a probed head it is LP-FT (arXiv 2202.10054).

    Warning:
        A head that starts at random distorts the pre-trained features in its first steps (arXiv 2202.10054);
        start from a probe's.

    Args:
        encoder: an encoder of any kind.
        class_names: ID classes: the name of a list, a text file with one name a line, or the names.
        scores: name in the results -> score; they read the head's logits.
        head: the linear head and where it starts.
        prompts: templates of the text prototypes, for a zero-shot head and for scores that compare with texts.
        trained: which towers are trained besides the head; `towers: none` is linear probing.
        optimizer: from the parameters to their optimiser.
        schedule: from the optimiser and the number of steps to the learning rate of each step.
        execution: memory and speed of a step.
    """

    def __init__(
        self,
        encoder: EncoderSettings,
        class_names: str | list[str],
        scores: dict[str, AbstractScore],
        head: HeadSettings = _HEAD,
        prompts: str | list[str] = "a photo of a {}",
        trained: TrainedTowers = _TRAINED,
        optimizer: OptimizerCallable = lambda parameters: torch.optim.AdamW(parameters, lr=1e-5, weight_decay=0.1),
        schedule: ScheduleCallable = lambda optimizer, steps: WarmupCosine(optimizer, steps, warmup=500),
        execution: Execution = _EXECUTION,
    ) -> None:
        super().__init__(encoder, class_names, scores)
        if trained.towers == "both":
            raise MmoodError(
                "`model.trained.towers` is both, but cross-entropy trains no text tower; set image or none."
            )
        check_exact(execution, trained)
        self.head_settings = head
        self.templates = load_templates(prompts)
        self.trained = trained
        self.optimizer = optimizer
        self.schedule = schedule
        self.execution = execution
        width = self.encoder.feature_dim if head.reads == "features" else self.encoder.embedding_dim
        if width is None:
            raise MmoodError("`model.head.reads` is embedding, but an image-only encoder has none; set it to features.")
        select_image_tower(self.encoder, trained, lambda images: self._read(self.encoder.encode_image(images)))
        self.head = nn.Linear(width, len(self.class_names))

    def logits(self, encoded: EncodedImages) -> Float[Tensor, "batch classes"]:
        """Return the head's logits."""
        logits: Tensor = self.head(self._read(encoded))
        return logits

    def reference(self) -> Reference:
        """Return the ID classes, the training images and the head, with texts from the tower as it was pre-trained."""
        linear = LinearHead(self.head_settings.reads, self.head.weight.detach(), self.head.bias.detach())
        return ModelReference(self.encoder, self.class_names, self.templates, (linear,), self.provider)

    def trained_state(self) -> dict[str, Tensor]:
        """Return the head, and the whole encoder if its image tower is trained."""
        kept = ("head.",) if self.trained.towers == "none" else ("head.", "encoder.")
        return {name: tensor for name, tensor in named_weights(self).items() if name.startswith(kept)}

    def details(self) -> dict[str, object]:
        """Return the prompt templates, with named sets resolved."""
        return {"prompts": list(self.templates)}

    def setup(self, stage: str) -> None:
        """Prepare for training, and give the head its start: before a checkpoint to resume from is loaded."""
        if stage != "fit":
            return
        prepare(self.encoder, self.execution)
        weight, bias = self._start()
        with torch.no_grad():
            self.head.weight.copy_(weight)
            self.head.bias.copy_(bias)

    def training_strategy(self) -> Strategy | str | None:
        """Return what `model.execution.strategy` asks of a trainer."""
        return self.execution.trainer_strategy()

    def configure_model(self) -> None:
        """Share the weights among the devices, where `model.execution.strategy` says so."""
        self.shards = sharded(self, self.execution)

    def monitors(self) -> list[Callback]:
        """Return the callback that logs the training."""
        return [StepMemoryNote(), TrainingMonitor()]

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return the optimiser of the trained parameters and its schedule, stepped after every batch."""
        groups = parameter_groups(self, self.trained.decay_vectors)
        return stepped(self.optimizer(groups), self.schedule, self.trainer)

    def on_fit_start(self) -> None:
        """Put the trained towers into training mode."""
        training_mode(self.encoder, self.trained)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the mean cross-entropy of the batch, computed in float32."""
        inputs = in_chunks(self._read_images, batch["image"], self.execution.chunk)
        with torch.autocast(self.device.type, enabled=False):
            return functional.cross_entropy(self.head(inputs), batch["label"])

    def step_memory(self, images: int, world: int, device: torch.device) -> str:
        """Return in a sentence what a step with so many images needs on each of `world` devices like `device`."""
        of_images = image_pass(self.encoder, self._read_images, images)
        with self.shards.whole():
            passes = measured(self.encoder, [of_images], self.execution)
        return memory_note(self, passes, world, device)

    def _read_images(self, images: Tensor) -> Tensor:
        return self._read(self.encoder.encode_image(images))

    def _read(self, encoded: EncodedImages) -> Tensor:
        output = encoded.features if self.head_settings.reads == "features" else encoded.embedding
        assert output is not None
        return output

    def _start(self) -> tuple[Tensor, Tensor]:
        """Return weight and bias of the head at the first step."""
        start, shape = self.head_settings.start, tuple(self.head.weight.shape)
        if start == "random":
            return self.head.weight, self.head.bias
        if start != "zero-shot":
            return load_head(Path(start), self.head_settings.reads, shape)
        if self.head_settings.reads != "embedding":
            raise MmoodError(
                "`model.head.start` is zero-shot, whose text prototypes are embeddings; set `model.head.reads` to "
                "embedding."
            )
        with torch.no_grad():
            prototypes = text_prototypes(self.encoder, self.class_names, self.templates)
            return with_texts(self.encoder).logit_scale * prototypes, torch.zeros(shape[0])


def load_head(path: Path, reads: Stored, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Return weight (C, F) and bias (C,) of the linear head in a checkpoint of LinearProbe or CrossEntropyFineTune.

    Raises:
        MmoodError: there is no such file, or it holds no head of that shape on that output.
    """
    if not path.is_file():
        raise MmoodError(
            f"`model.head.start` is '{path}', which is not a file; give random, zero-shot or a checkpoint."
        )
    state = read_checkpoint(path, "`model.head.start`").get("state_dict", {})
    weight, bias = state.get("head.weight"), state.get("head.bias")
    if "probe.chosen" in state:
        linear = stored_probe({name.removeprefix("probe."): tensor for name, tensor in state.items()}).linear()
        weight, bias = linear.weight, linear.bias
        if linear.reads != reads:
            raise MmoodError(
                f"The probe in '{path}' of `model.head.start` reads {linear.reads}, but `model.head.reads` is {reads}."
            )
    if weight is None or bias is None or tuple(weight.shape) != shape:
        found = "no linear head" if weight is None or bias is None else f"one of shape {tuple(weight.shape)}"
        raise MmoodError(
            f"The checkpoint '{path}' of `model.head.start` has {found}; a head of shape {shape} is needed."
        )
    return weight, bias
