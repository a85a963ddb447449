"""Which strategy a training has: `trainer.strategy`, or what the model's execution asks for."""

from __future__ import annotations

from jsonargparse import Namespace
from lightning.pytorch import LightningModule
from lightning.pytorch.strategies import Strategy

from mmood.errors import MmoodError
from mmood.modules import AbstractDetector
from mmood.modules.sharding import ShardedStrategy

_SHARDING = ("fsdp", "model_parallel", "deepspeed")


def training_strategy(settings: Namespace, model: LightningModule) -> Strategy | str:
    """Return the strategy of a training.

    Args:
        settings: of the trainer.
        model: what is trained.

    Raises:
        MmoodError: trainer and model ask for different strategies, or for one under which the model cannot be trained.
    """
    given: Strategy | str = settings.strategy
    wanted = model.training_strategy() if isinstance(model, AbstractDetector) else None
    if wanted is None:
        if str(given).startswith(_SHARDING):
            raise MmoodError(
                f"`trainer.strategy` is {given}, but mmood shards weights where `model.execution.strategy` is fsdp, a "
                "setting of the modules that fine-tune towers; leave `trainer.strategy` out."
            )
        return given
    if given not in ("auto", wanted):
        raise MmoodError(
            f"`trainer.strategy` is {given}, but `model.execution.strategy` asks for another; leave one out."
        )
    if isinstance(wanted, ShardedStrategy) and settings.precision in ("16", 16, "16-mixed"):
        raise MmoodError(
            "`trainer.precision` is 16-mixed, whose scaled gradients cannot be sharded; set it to bf16-mixed, or "
            "`model.execution.strategy` to ddp."
        )
    return wanted
