"""How a training step is computed: memory, speed, and what the devices share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.strategies import ModelParallelStrategy, Strategy

from mmood.encoders.base import AbstractEncoder
from mmood.encoders.image_only import ImageEncoder
from mmood.encoders.vision_language import VisionLanguageEncoder
from mmood.errors import MmoodError
from mmood.modules.base import AbstractDetector
from mmood.modules.fine_tuning.trained import TrainedTowers
from mmood.modules.sharding import ShardedStrategy, Shards, shard
from mmood.settings import check_choice, check_count

COMPILED = ("visual.transformer", "visual.trunk", "transformer", "text.transformer")
"""The parts of open_clip's models that hold almost all of the work and are called as modules."""


@dataclass(frozen=True)
class Execution:
    """How a step is computed; nothing here changes what it computes.

    Attributes:
        chunk: images (and texts) of a device whose activations are held at a time; the rest of the batch is encoded
            twice. None holds all.
        checkpointing: hold only the inputs of the towers' blocks and compute the rest twice.
        compile: compile the towers with `torch.compile`.
        channels_last: memory format of images and convolutions; pays for ResNets and ConvNeXts.
        strategy: what several devices hold of a trained model: `ddp`, each all of it; `fsdp`, each a share of weights,
            gradients and optimiser states (FSDP2); `auto`, what `trainer.strategy` says, by default ddp.
    """

    chunk: int | None = None
    checkpointing: bool = False
    compile: bool = False
    channels_last: bool = False
    strategy: Literal["auto", "ddp", "fsdp"] = "auto"

    def __post_init__(self) -> None:
        check_count("`model.execution.chunk`", self.chunk, null="all images at once")
        check_choice("`model.execution.strategy`", self.strategy, ("auto", "ddp", "fsdp"))
        if self.strategy == "fsdp" and self.compile:
            raise MmoodError(
                "`model.execution.compile` compiles whole towers, but where `model.execution.strategy` is fsdp their "
                "blocks are gathered one by one; set one of them only."
            )

    def trainer_strategy(self) -> Strategy | str | None:
        """Return what a Trainer that fits must have as its `strategy`; None for whatever it has."""
        return {"auto": None, "ddp": "ddp", "fsdp": ShardedStrategy()}[self.strategy]


def check_exact(execution: Execution, trained: TrainedTowers) -> None:
    """Raise MmoodError where BatchNorm in training mode would make a step another one than its settings say."""
    if trained.batch_norm and execution.chunk is not None:
        raise MmoodError(
            "`model.execution.chunk` encodes each image twice and in smaller chunks, which is not exact with "
            "BatchNorm in training mode; leave it out, or set `model.trained.batch_norm` to false."
        )
    if trained.batch_norm and execution.strategy == "fsdp":
        raise MmoodError(
            "`model.execution.strategy` is fsdp, under which each device would keep running statistics of its own; set "
            "it to ddp, or set `model.trained.batch_norm` to false."
        )


def prepare(encoder: AbstractEncoder, execution: Execution) -> None:
    """Apply the settings of `execution` to an encoder; to be called before the model is wrapped for DDP."""
    assert isinstance(encoder, VisionLanguageEncoder | ImageEncoder)
    if execution.channels_last:
        # Convolutions follow the format of their weights.
        for parameter in encoder.parameters():
            if parameter.ndim == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    if execution.checkpointing:
        encoder.model.set_grad_checkpointing(True)
    if execution.compile:
        for name, module in encoder.model.named_modules():
            if name in COMPILED:
                module.compile()


def sharded(module: AbstractDetector, execution: Execution) -> Shards:
    """Return how the encoder of a detector is shared among the devices of its trainer, after doing so.

    Raises:
        MmoodError: the trainer cannot do what `execution` asks for.
    """
    trainer = module.trainer
    if not module.fitting():
        if module.shards.modules:
            raise MmoodError(
                "The devices share the weights of this module since it was trained; build it anew from its checkpoint."
            )
        return Shards()
    if module.shards.modules:
        return module.shards
    if (execution.strategy == "fsdp") != isinstance(trainer.strategy, ModelParallelStrategy):
        raise MmoodError(
            f"`model.execution.strategy` is {execution.strategy}, but the Trainer has a "
            f"{type(trainer.strategy).__name__}; make it as `Trainer(strategy=module.training_strategy())`."
        )
    if not isinstance(trainer.strategy, ShardedStrategy):
        return Shards()
    if any(isinstance(callback, WeightAveraging) for callback in trainer.callbacks):  # type: ignore[attr-defined]
        raise MmoodError(
            "Weight averaging copies whole models, which no device holds where `model.execution.strategy` is fsdp; "
            "set it to ddp, or leave the callback out."
        )
    return shard(module, module.encoder, trainer.strategy, reshard=execution.chunk is None)
