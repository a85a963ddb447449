"""What a training step needs of memory, counted before the first one and said.

What autograd keeps of each tower for the backward pass is counted on two inputs and on three: every further one adds
what the third does.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, final, runtime_checkable

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from mmood.encoders.base import AbstractEncoder
from mmood.encoders.image_only import ImageEncoder
from mmood.encoders.vision_language import VisionLanguageEncoder
from mmood.modules.fine_tuning.execution import Execution
from mmood.modules.fine_tuning.memory import Held, Pass, Size, Weights, said
from mmood.modules.sharding import blocks
from mmood.output.printing import complain

_FLOAT32 = 4
_NO_CHECKPOINTING = (AssertionError, AttributeError, NotImplementedError, RuntimeError, TypeError)
"""What open_clip and timm raise for a tower whose blocks they cannot checkpoint."""


@dataclass(frozen=True)
class Planned:
    """What a step sends through a tower on each device.

    Attributes:
        encode: the pass.
        sample: three inputs.
        inputs: images or texts of a step.
        size: of the tower.
    """

    encode: Callable[[Tensor], Tensor]
    sample: Tensor
    inputs: int
    size: Size


@runtime_checkable
class Measurable(Protocol):
    """A module that knows what a step of its training needs."""

    encoder: AbstractEncoder
    optimizer: OptimizerCallable
    execution: Execution

    def step_memory(self, images: int, world: int, device: torch.device) -> str:
        """Return in a sentence what a step with so many images needs on each of `world` devices like `device`."""


@final
class StepMemoryNote(Callback):
    """Says before the first step of a training how much memory a step needs on each device."""

    def __init__(self) -> None:
        self._said = False

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Say it once."""
        if self._said:
            return
        self._said = True
        assert isinstance(pl_module, Measurable)
        with trainer.precision_plugin.forward_context():
            found = pl_module.step_memory(len(batch["label"]), trainer.world_size, pl_module.device)
        if trainer.is_global_zero:
            complain(found)


def image_pass(encoder: AbstractEncoder, encode: Callable[[Tensor], Tensor], images: int) -> Planned:
    """Return what a step sends through the image tower of an encoder on each device."""
    sample = torch.zeros(3, 3, *encoder.image_size, device=next(encoder.parameters()).device)
    tower = encoder.model.visual if isinstance(encoder, VisionLanguageEncoder) else encoder
    return Planned(encode, sample, images, size_of(tower))


def measured(encoder: AbstractEncoder, planned: Sequence[Planned], execution: Execution) -> list[Pass]:
    """Return what the passes of a step keep; leaves the encoder as it is."""
    assert isinstance(encoder, VisionLanguageEncoder | ImageEncoder)
    held: list[list[Held | None]] = []
    with undisturbed(encoder):
        for checkpointing in (not execution.checkpointing, execution.checkpointing):
            try:
                encoder.model.set_grad_checkpointing(checkpointing)
                held.append([_held(each, encoder) for each in planned])
            except _NO_CHECKPOINTING:
                held.append([None for _ in planned])
    plain, checkpointed = held if execution.checkpointing else reversed(held)
    return [
        Pass(each.inputs, each.sample[0].nbytes, kept or Held(0, 0, 0), less, each.size)
        for each, kept, less in zip(planned, plain, checkpointed, strict=True)
    ]


def memory_note(module: Measurable, passes: list[Pass], world: int, device: torch.device) -> str:
    """Return in a sentence what a step of these passes needs on each of `world` devices like `device`."""
    assert isinstance(module, nn.Module)
    weights = model_weights(module, module.encoder, module.optimizer)
    return said(weights, passes, module.execution, world, _capacity(device))


def size_of(tower: nn.Module) -> Size:
    """Return the size of a tower, of which a device may hold a share only."""
    trained = [parameter.nbytes for parameter in tower.parameters() if parameter.requires_grad]
    return Size(len(list(blocks(tower))), sum(trained))


def model_weights(module: nn.Module, encoder: nn.Module, optimizer: OptimizerCallable) -> Weights:
    """Return the bytes of a module's weights, all of which a device holds at the moment."""
    trained, frozen = (
        sum(one.nbytes for one in module.parameters() if one.requires_grad == wanted) for wanted in (True, False)
    )
    sharded = sum(one.nbytes for block in blocks(encoder) for one in block.parameters() if one.requires_grad)
    return Weights(trained, frozen, sharded, _states(optimizer))


def _capacity(device: torch.device) -> int | None:
    """Return the bytes of a device's memory; of the CPU those of the machine, and None if they are not known."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    if device.type == "cpu" and "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


@contextlib.contextmanager
def undisturbed(encoder: nn.Module) -> Iterator[None]:
    """Let passes inside the block change nothing: no running statistics, no dropout, nothing compiled."""
    modes = [(module, module.training) for module in encoder.modules()]
    encoder.eval()
    try:
        with torch.compiler.set_stance("force_eager"), torch.enable_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def _held(planned: Planned, encoder: nn.Module) -> Held:
    known = {tensor.untyped_storage().data_ptr() for tensor in (planned.sample, *encoder.parameters())}
    # Not one input: what is contiguous with one alone need not be copied.
    fewer, more = (_kept(planned.encode, planned.sample[:number], known) for number in (2, 3))
    less, total = (sum(size for size, _ in kept) for kept in (fewer, more))
    of_inputs = Counter(more) - Counter(fewer)
    largest = max((_FLOAT32 * size // each for size, each in of_inputs), default=0) // 3
    return Held(total - less, max(0, less - 2 * (total - less)), largest)


def _kept(encode: Callable[[Tensor], Tensor], inputs: Tensor, known: set[int]) -> list[tuple[int, int]]:
    """Return bytes, and bytes of a number, of each memory that autograd keeps of a pass, but of weights and inputs."""
    found: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        # Held until all are counted, so that no memory is counted for two.
        found.setdefault(tensor.untyped_storage().data_ptr(), tensor)
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        encode(inputs)
    kept = [tensor for place, tensor in found.items() if place not in known]
    return [(tensor.untyped_storage().nbytes(), tensor.element_size()) for tensor in kept]


def _states(optimizer: OptimizerCallable) -> float:
    """Return how many numbers an optimiser keeps for each weight, found by a step with one of its kind."""
    parameter = nn.Parameter(torch.zeros(64, 64))
    made = optimizer([parameter])
    parameter.grad = torch.zeros_like(parameter)
    made.step()
    kept = [value for value in made.state[parameter].values() if isinstance(value, Tensor) and value.ndim > 0]
    return sum(value.nbytes for value in kept) / parameter.nbytes
