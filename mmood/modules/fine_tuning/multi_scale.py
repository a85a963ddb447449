"""MODE: a network trained so that positions of its maps, and not only their mean, tell classes apart."""

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
from torch.nn.functional import normalize

from mmood.encoders import EncodedImages, EncoderSettings, ImageTransform
from mmood.encoders.transforms import contrastive_transform
from mmood.encoders.weights import named_weights
from mmood.errors import MmoodError
from mmood.features.views import Crops
from mmood.loading.batch import Batch
from mmood.losses import alpa_loss, supcon_loss
from mmood.modules.base import AbstractDetector
from mmood.modules.fine_tuning.execution import Execution, check_exact, prepare, sharded
from mmood.modules.fine_tuning.gradient_cache import in_chunks
from mmood.modules.fine_tuning.measuring import Planned, StepMemoryNote, image_pass, measured, memory_note
from mmood.modules.fine_tuning.memory import Pass, Size
from mmood.modules.fine_tuning.projectors import KEYS, Projectors
from mmood.modules.fine_tuning.trained import (
    TrainedTowers,
    own_batch_norm,
    parameter_groups,
    select_image_tower,
    training_mode,
)
from mmood.modules.gather import gathered
from mmood.modules.optimisation import ScheduleCallable, WarmupCosine, refuse_accumulation, stepped
from mmood.modules.reference import ModelReference
from mmood.modules.training_monitor import TrainingMonitor
from mmood.output.printing import complain
from mmood.runs.checkpoints import read_checkpoint
from mmood.scores.bank import bank_rows
from mmood.scores.base import AbstractScore, LinearHead, Reference
from mmood.scores.descriptors import LocalHead
from mmood.scores.functional_gaussian import class_means
from mmood.settings import check_number

VIEWS = 2
"""Augmented views of each image in a batch."""
_CONTRAST = 128


@dataclass(frozen=True)
class MultiScaleLoss:
    """The loss `contrastive * SupCon + local * ALPA`; the defaults are MODE-T, which trains from scratch.

    Attributes:
        contrastive: weight of the supervised contrastive loss of the pooled features (arXiv 2004.11362), through a head
            of 128 dimensions; 0 leaves ALPA alone, which is MODE-F.
        local: weight of ALPA; 0 leaves SupCon alone.
        temperature: of SupCon.
        scale: multiplies the similarities of ALPA.
    """

    contrastive: float = 1.0
    local: float = 1.0
    temperature: float = 0.1
    scale: float = 10.0

    def __post_init__(self) -> None:
        check_number("`model.loss.contrastive`", self.contrastive, least=0)
        check_number("`model.loss.local`", self.local, least=0)
        check_number("`model.loss.temperature`", self.temperature, above=0)
        check_number("`model.loss.scale`", self.scale, above=0)
        if self.contrastive == self.local == 0:
            raise MmoodError("`model.loss.contrastive` and `model.loss.local` are both 0; set one of them to 1.")


_LOSS = MultiScaleLoss()
_TRAINED = TrainedTowers(towers="image", batch_norm=True)
_EXECUTION = Execution()


@final
class MultiScale(AbstractDetector):
    """Trains an image tower on two views of each image, by SupCon and by ALPA (MODE, arXiv 2308.10239); for `CSD`.

    The loss compares all images of all devices: 2 x 64 trains the same weights as 1 x 128, except for BatchNorm's
    statistics, which `trainer.sync_batchnorm` joins. The logits are those of the nearest class mean of the features of
    the ID training images, f·μ_c - |μ_c|²/2. With `trained.towers: none` only ALPA's heads are trained, and `CSD` reads
    the values that they make of each position (that form is ours).

    Warning:
        The released code does not run as it is, so this is a re-implementation after paper and code; compare
        with its k-NN row first.

    Args:
        encoder: an encoder of any kind whose tower has a map; `timm:cifar_resnet18` is that of the paper for CIFAR-10.
        class_names: ID classes: the name of a list, a text file with one name a line, or the names.
        scores: name in the results -> score.
        loss: weights of the losses; MODE-T by default.
        start: a checkpoint of mmood whose encoder training starts from; None for that of `encoder`.
        crop: smallest and largest share of an image's area in a view.
        trained: which towers and layers are trained.
        optimizer: from the parameters to their optimiser.
        schedule: from the optimiser and the number of steps to the learning rate of each step.
        execution: memory and speed of a step.
    """

    def __init__(
        self,
        encoder: EncoderSettings,
        class_names: str | list[str],
        scores: dict[str, AbstractScore],
        loss: MultiScaleLoss = _LOSS,
        start: str | None = None,
        crop: tuple[float, float] = (0.2, 1.0),
        trained: TrainedTowers = _TRAINED,
        optimizer: OptimizerCallable = lambda parameters: torch.optim.SGD(
            parameters, lr=0.5, momentum=0.9, weight_decay=1e-4
        ),
        schedule: ScheduleCallable = lambda optimizer, steps: WarmupCosine(optimizer, steps, warmup=0, floor=1e-3),
        execution: Execution = _EXECUTION,
    ) -> None:
        super().__init__(encoder, class_names, scores)
        _check(loss, crop, trained, execution)
        self.loss = loss
        self.start = start
        self.crop = crop
        self.trained = trained
        self.optimizer = optimizer
        self.schedule = schedule
        self.execution = execution
        select_image_tower(self.encoder, trained, self._rows)
        width = self.encoder.feature_dim
        # A head without a loss would have no gradient, for which DDP waits.
        self.projectors = Projectors(width) if loss.local else None
        layers = (nn.Linear(width, width), nn.ReLU(), nn.Linear(width, _CONTRAST))
        self.contrast = nn.Sequential(*layers) if loss.contrastive else None
        self._means: LinearHead | None = None

    def logits(self, encoded: EncodedImages) -> Float[Tensor, "batch classes"]:
        """Return f·μ_c - |μ_c|²/2 for the mean μ_c of the training images of each class."""
        if self._means is None:
            raise MmoodError(
                "MultiScale makes its logits of ID training images; run it over data with `data.train` set."
            )
        self._means = self._means.to(encoded.features.device)
        return self._means.logits(encoded.features)

    def reference(self) -> Reference:
        """Return the training images, their class means as a head, and the value head of a frozen tower."""
        value = self._value_head()
        bare = ModelReference(self.encoder, self.class_names, (), provider=self.provider, local_head=value)
        if self.provider is None:
            # What the head reads can be said of it before there is one.
            count, width = len(self.class_names), self.encoder.feature_dim
            unknown = LinearHead("features", torch.zeros(count, width), torch.zeros(count))
            return ModelReference(self.encoder, self.class_names, (), (unknown,), local_head=value)
        self._means = nearest_mean_head(bare).to(self.device)
        return ModelReference(
            self.encoder, self.class_names, (), (self._means,), provider=self.provider, local_head=value
        )

    def trained_state(self) -> dict[str, Tensor]:
        """Return the heads of the losses, and the whole encoder if its image tower is trained."""
        kept = ("projectors.", "contrast.") + (() if self.trained.towers == "none" else ("encoder.",))
        return {name: tensor for name, tensor in named_weights(self).items() if name.startswith(kept)}

    def training_transform(self) -> ImageTransform:
        """Return two augmented views of an image, (2, 3, H, W)."""
        return Crops(contrastive_transform(self.encoder.preprocessing, self.crop), VIEWS)

    def setup(self, stage: str) -> None:
        """Prepare for training, and take the weights to start from: before a checkpoint to resume from is loaded."""
        if stage != "fit":
            return
        prepare(self.encoder, self.execution)
        if self.start is not None:
            load_encoder(Path(self.start), self.encoder)

    def training_strategy(self) -> Strategy | str | None:
        """Return what `model.execution.strategy` asks of a trainer."""
        return self.execution.trainer_strategy()

    def configure_model(self) -> None:
        """Share the weights among the devices, where `model.execution.strategy` says so."""
        self.shards = sharded(self, self.execution)

    def monitors(self) -> list[Callback]:
        """Return the callbacks that say what a step needs, and log the training."""
        return [StepMemoryNote(), TrainingMonitor()]

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return the optimiser of the trained parameters and its schedule, stepped after every batch."""
        groups = parameter_groups(self, self.trained.decay_vectors)
        return stepped(self.optimizer(groups), self.schedule, self.trainer)

    def on_fit_start(self) -> None:
        """Refuse what would shrink the contrastive batch, and put the trained tower into training mode."""
        refuse_accumulation(self.trainer, "images")
        training_mode(self.encoder, self.trained)
        if self.trainer.world_size > 1 and self.trainer.is_global_zero and own_batch_norm(self.encoder):
            complain(
                "BatchNorm takes its statistics from the images of each device alone, so the weights are not those of "
                "one process; set `trainer.sync_batchnorm: true` (on GPUs), or `model.trained.batch_norm: false`."
            )

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of the global batch, computed in float32."""
        rows = in_chunks(self._rows, batch["image"].flatten(0, 1), self.execution.chunk)
        labels = gathered(batch["label"].repeat_interleave(VIEWS))
        loss = rows.new_zeros(())
        if self.contrast is not None:
            embedding = gathered(normalize(self.contrast(rows[:, 0]).float(), dim=1))
            with torch.autocast(self.device.type, enabled=False):
                loss = loss + self.loss.contrastive * supcon_loss(embedding, labels, self.loss.temperature)
        if self.projectors is not None:
            queries, keys, values = map(gathered, self.projectors(rows[:, 1:]))
            with torch.autocast(self.device.type, enabled=False):
                loss = loss + self.loss.local * alpa_loss(queries, keys, values, labels, self.loss.scale)
        return loss

    def step_memory(self, images: int, world: int, device: torch.device) -> str:
        """Return in a sentence what a step with so many images needs on each of `world` devices like `device`."""
        return memory_note(self, self.step_passes(images), world, device)

    def step_passes(self, images: int) -> list[Pass]:
        """Return what the passes of a step through tower and heads keep on each device; every rank must call this."""
        of_images = image_pass(self.encoder, self._rows, VIEWS * images)
        with self.shards.whole(), torch.no_grad():
            rows = self._rows(of_images.sample)
        positions = rows.shape[1] - 1
        # ALPA keeps the products of the values of an image with one another, and its normalised values.
        of_loss = 4 * positions * (positions + KEYS) if self.projectors is not None else 0
        heads = Planned(self._heads, rows, VIEWS * images, Size(0, _trained_bytes(self) - of_images.size.gradients))
        with self.shards.whole():
            tower, of_rows = measured(self.encoder, [of_images, heads], self.execution)
        return [tower, of_rows.at_once(of_loss)]

    def _heads(self, rows: Tensor) -> Tensor:
        """Return what the heads of the losses make of rows, of each input in a line."""
        found = [] if self.contrast is None else [self.contrast(rows[:, 0])]
        if self.projectors is not None:
            found += [part.flatten(1) for part in self.projectors(rows[:, 1:])]
        return torch.cat(found, dim=1)

    def _rows(self, images: Tensor) -> Float[Tensor, "batch rows features"]:
        """Return the pooled features and, if ALPA is on, each position behind them: (B, 1 + P, F)."""
        encoded = self.encoder.encode_image(images, feature_map=self.loss.local > 0)
        pooled = encoded.features.unsqueeze(1)
        return pooled if encoded.feature_map is None else torch.cat([pooled, encoded.feature_map], dim=1)

    def _value_head(self) -> LocalHead | None:
        if self.trained.towers != "none" or self.projectors is None:
            return None
        value = self.projectors.value
        return LocalHead(value.first.weight.detach().clone(), value.second.weight.detach().clone())


def _trained_bytes(module: nn.Module) -> int:
    return sum(parameter.nbytes for parameter in module.parameters() if parameter.requires_grad)


def nearest_mean_head(reference: Reference) -> LinearHead:
    """Return the head of the nearest class mean: its logits order classes as -|f - μ_c|² does.

    Raises:
        MmoodError: a class has no training image, or there are none at all.
    """
    means, images = class_means(
        lambda: ((labels, rows) for labels, rows in bank_rows(reference, "features")), len(reference.class_names)
    )
    if not images.all():
        missing = reference.class_names[int(images.argmin())]
        raise MmoodError(f"The class '{missing}' has no ID training image, so it has no mean; give one of each class.")
    return LinearHead("features", means.float(), (-means.square().sum(dim=1) / 2).float())


def load_encoder(path: Path, encoder: nn.Module) -> None:
    """Load the encoder of a checkpoint of mmood.

    Raises:
        MmoodError: there is no such file, or it holds no encoder of these tensors.
    """
    state = read_checkpoint(path, "`model.start`").get("state_dict", {})
    found = {name.removeprefix("encoder."): tensor for name, tensor in state.items() if name.startswith("encoder.")}
    own = encoder.state_dict()
    if found.keys() != own.keys() or any(found[name].shape != tensor.shape for name, tensor in own.items()):
        what = "another encoder" if found else "no trained encoder"
        raise MmoodError(f"The checkpoint '{path}' of `model.start` has {what}; name one that trained this encoder.")
    encoder.load_state_dict(found)


def _check(loss: MultiScaleLoss, crop: tuple[float, float], trained: TrainedTowers, execution: Execution) -> None:
    if not 0 < crop[0] <= crop[1] <= 1:
        raise MmoodError(
            f"`model.crop` is {list(crop)}; give the least and the largest share of an image's area, such as [0.2, 1]."
        )
    if trained.towers == "both":
        raise MmoodError("`model.trained.towers` is both, but MultiScale trains no text tower; set image or none.")
    if trained.towers == "none" and (loss.contrastive or not loss.local):
        raise MmoodError(
            "`model.trained.towers` is none, so only ALPA's value head reaches the scores; set "
            "`model.loss.contrastive` to 0 and `model.loss.local` to 1, or train the image tower."
        )
    if trained.towers != "none":
        check_exact(execution, trained)
