"""FSDP2: each device holds a share of the towers' weights, of their gradients and of the optimiser's states.

Sharded are the blocks of the towers and their word embeddings, which hold nearly all weights and are called as modules:
a device gathers the weights of a block before it runs it, and drops them behind it. Positions, projections, the logit
scale and a linear head are read without a call, so every device holds them whole; their gradients are averaged after
the backward pass, as DDP does. So the contrastive batch is that of all devices, and the weights are those of DDP.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor, distributed, nn
from torch.optim.optimizer import Optimizer
from torch.utils._pytree import tree_map_only

from mmood.encoders.base import AbstractEncoder
from mmood.encoders.vision_language import VisionLanguageEncoder
from mmood.encoders.weights import named_weights
from mmood.errors import MmoodError
from mmood.modules.gather import rank, world_size

if TYPE_CHECKING:
    from torch.distributed.fsdp import FSDPModule

_LEAST = 1e-3
"""Share of the encoder's weights that a block must have to be gathered by itself."""


@dataclass(frozen=True)
class Shards:
    """The sharded modules of an encoder; none where every device holds all weights.

    Attributes:
        modules: the blocks, then the encoder around them.
        reshard: drop the weights of a block between its forward and its backward pass.
    """

    modules: tuple[FSDPModule, ...] = ()
    reshard: bool = True

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Hold all weights on every device inside the block; every rank must enter it."""
        if not self.modules or self._gathered():
            yield
            return
        self.gather()
        try:
            yield
        finally:
            self.release()

    def gather(self) -> None:
        """Let every device hold all weights, so that ranks may encode different numbers of batches."""
        # Weights that are gathered in inference mode could not be trained afterwards.
        with torch.inference_mode(False), torch.no_grad():
            for module in self.modules:
                module.set_reshard_after_forward(False, recurse=False)
                module.unshard()

    def release(self) -> None:
        """Let every device hold its share alone."""
        with torch.inference_mode(False), torch.no_grad():
            for module in self.modules:
                module.reshard()
                module.set_reshard_after_forward(self.reshard, recurse=False)

    def kept(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return tensors for a checkpoint that the first rank writes, as they are while the weights are whole."""
        if not self.modules:
            return state
        return {name: tensor.to("cpu", copy=True) for name, tensor in state.items()} if rank() == 0 else {}

    def _gathered(self) -> bool:
        encoder = self.modules[-1]
        assert isinstance(encoder, nn.Module)
        return not any(map(_sharded, encoder.parameters()))


@final
class ShardedStrategy(ModelParallelStrategy):
    """Lightning's FSDP2 over all devices, whose checkpoints are those of one device: one file, whole tensors by name.

    So a run may be saved under one strategy and resumed under another, and `mmood test` reads its checkpoints.
    """

    def __init__(self) -> None:
        super().__init__(save_distributed_checkpoint=False)

    def setup_environment(self) -> None:
        """Give all devices to the sharding; Lightning's default is a mesh for tensor parallelism within a node."""
        self._data_parallel_size, self._tensor_parallel_size = self.num_nodes * self.num_processes, 1
        super().setup_environment()

    @property
    def restore_checkpoint_after_setup(self) -> bool:
        """Load weights before the run begins, as with other strategies."""
        return False

    @property
    def lightning_restore_optimizer(self) -> bool:
        """Load the states of optimisers with `load_optimizer_state_dict`, as with other strategies."""
        return True

    def post_backward(self, closure_loss: Tensor) -> None:
        """Average the gradients of weights that are not sharded, and drop blocks that were kept for several chunks."""
        from torch.distributed.fsdp import FSDPModule

        assert self.lightning_module is not None
        parameters = self.lightning_module.parameters()
        _average([one.grad for one in parameters if one.grad is not None and not _sharded(one)])
        for module in self.lightning_module.modules():
            if isinstance(module, FSDPModule):
                module.reshard()

    def optimizer_step(
        self,
        optimizer: Optimizer,
        closure: Callable[[], Any],
        model: LightningModule | nn.Module | None = None,
        **kwargs: Any,
    ) -> Any:
        """Clip and step over sharded and whole weights together."""
        from torch.distributed.tensor.experimental import implicit_replication

        with implicit_replication():
            return super().optimizer_step(optimizer, closure, model, **kwargs)

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Return nothing: detectors gather their weights themselves (`on_save_checkpoint`)."""
        return {}

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Return the content of a checkpoint."""
        return self.checkpoint_io.load_checkpoint(checkpoint_path, weights_only=weights_only)

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Take this device's share of the weights of a checkpoint; a detector has checked their names."""
        assert self.lightning_module is not None
        own = named_weights(self.lightning_module)
        with torch.no_grad():
            for name, tensor in checkpoint["state_dict"].items():
                own[name].copy_(_like(tensor, own[name]))

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """Return the whole state of an optimiser on the first rank, in torch's own form."""
        from torch.distributed.tensor import DTensor

        def whole(tensor: DTensor) -> Tensor | None:
            # One tensor at a time is whole on a device.
            found = tensor.full_tensor()
            return found.cpu() if rank() == 0 else None

        state: dict[str, Any] = tree_map_only(DTensor, whole, optimizer.state_dict())
        return state

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Take this device's share of the states of the optimisers of a checkpoint."""
        for optimizer, stored in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            numbers = [number for group in stored["param_groups"] for number in group["params"]]
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            own = dict(zip(numbers, parameters, strict=True))
            state = {number: _like_all(values, own[number]) for number, values in stored["state"].items()}
            optimizer.load_state_dict({**stored, "state": state})


def shard(module: LightningModule, encoder: AbstractEncoder, strategy: ShardedStrategy, reshard: bool) -> Shards:
    """Shard an encoder over the devices of a strategy; weights that ranks drew differently become the first rank's.

    Args:
        module: what is trained, with the encoder in it.
        encoder: whose towers are sharded.
        strategy: of the trainer, with its processes started.
        reshard: drop the weights of a block between its forward and its backward pass. Otherwise they are gathered
            once for a step: where several chunks pass a block, they would be gathered for each.

    Raises:
        MmoodError: the encoder has no blocks.
    """
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    mesh, device = strategy.device_mesh["data_parallel"], strategy.root_device
    parts = list(blocks(encoder))
    if not parts:
        raise MmoodError(
            f"`model.execution.strategy` is fsdp, which shards the blocks of towers, but '{encoder.settings.name}' has "
            "none; set it to ddp."
        )
    sharded = []
    for block in parts:
        # One after the other, so that a device never holds the whole model.
        _broadcast(block.to(device).parameters())
        sharded.append(fully_shard(block, mesh=mesh, reshard_after_forward=reshard))
        sharded[-1].set_reshard_after_backward(reshard)
    others = [parameter for parameter in module.to(device).parameters() if not _sharded(parameter)]
    _broadcast(others)
    root = fully_shard(encoder, mesh=mesh, ignored_params=set(others))
    for name in ("encode_image", *(["encode_token_ids"] if isinstance(encoder, VisionLanguageEncoder) else [])):
        register_fsdp_forward_method(encoder, name)
    with torch.no_grad():
        # The first module that runs becomes the root, which shares its streams with all others.
        encoder.encode_image(torch.zeros(1, 3, *encoder.image_size, device=device))
    return Shards((*sharded, root), reshard)


def blocks(tower: nn.Module) -> Iterator[nn.Module]:
    """Yield the outermost members of lists of modules, and the word embeddings; none with few of the weights."""
    yield from _blocks(tower, _LEAST * sum(parameter.numel() for parameter in tower.parameters()))


def _blocks(module: nn.Module, least: float) -> Iterator[nn.Module]:
    in_list = isinstance(module, nn.ModuleList | nn.Sequential)
    for child in module.children():
        size = sum(parameter.numel() for parameter in child.parameters())
        if size >= least and (in_list or isinstance(child, nn.Embedding)):
            yield child
        else:
            yield from _blocks(child, least)


def _sharded(tensor: Tensor) -> bool:
    from torch.distributed.tensor import DTensor

    return isinstance(tensor, DTensor)


def _like(value: Tensor, own: Tensor) -> Tensor:
    """Return a whole tensor as `own` is: on its device, and sharded as it is."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    value = value.to(own.device, own.dtype)
    if not isinstance(own, DTensor):
        return value
    # Every rank has read the file: nothing is sent.
    return distribute_tensor(value, own.device_mesh, own.placements, src_data_rank=None)


def _like_all(values: Mapping[str, Any], own: Tensor) -> dict[str, Any]:
    """Return the states of a parameter; those of its shape, such as moments, are sharded as it is."""
    return {
        name: _like(value, own) if isinstance(value, Tensor) and value.shape == own.shape else value
        for name, value in values.items()
    }


def _broadcast(parameters: Iterable[nn.Parameter]) -> None:
    for parameter in parameters:
        distributed.broadcast(parameter.data, 0)


def _average(gradients: list[Tensor]) -> None:
    """Replace gradients by their means over the ranks, all in one message."""
    if not gradients:
        return
    together = torch.cat([gradient.flatten() for gradient in gradients])
    distributed.all_reduce(together)
    parts = torch.split(together / world_size(), [gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))
