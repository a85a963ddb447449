"""How much memory a training step needs on each device: arithmetic on what `measuring` counts.

Against measured peaks it was between 5 % too low and 14 % too high: on a CPU with small towers in float32 and bf16,
with and without chunks and checkpointing; on an H200 with ViT-B/16 at a batch of 512, plain and in chunks
(docs/gpu.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from mmood.modules.fine_tuning.execution import Execution

_GIB = 2**30
_IN_PASSING = 2
"""So many tensors of the largest's shape, in float32, exist for a moment in the backward pass: gradients around it."""


@dataclass(frozen=True)
class Held:
    """What autograd keeps of a pass through a tower until its backward pass, in bytes.

    Attributes:
        each: of every input.
        once: whatever the number of inputs, such as weights that autocast has cast.
        largest: the largest tensor of one input, in float32.
    """

    each: int
    once: int
    largest: int

    def of(self, inputs: int, in_passing: int = _IN_PASSING) -> int:
        """Return what the passes of so many inputs need, forward and backward; 0 if nothing is trained."""
        return self.once + inputs * (self.each + in_passing * self.largest) if self.each else 0


@dataclass(frozen=True)
class Size:
    """The size of a tower.

    Attributes:
        blocks: how many it has.
        gradients: their bytes.
    """

    blocks: int
    gradients: int

    def without(self, part: Size) -> Size:
        """Return the size of all but a part."""
        return Size(self.blocks - part.blocks, self.gradients - part.gradients)


@dataclass(frozen=True)
class Pass:
    """What the passes of a step through a tower keep on each device.

    Attributes:
        inputs: images or texts.
        input_bytes: of one.
        held: with all activations kept.
        checkpointed: with only the inputs of blocks kept; None if the tower's blocks cannot be checkpointed.
        size: of the tower.
    """

    inputs: int
    input_bytes: int
    held: Held
    checkpointed: Held | None
    size: Size

    def at_once(self, also: int = 0) -> Pass:
        """Return the pass with all inputs as one, which no chunk divides; each takes `also` so many bytes more."""
        held = Held(self.inputs * (self.held.each + also), self.held.once, self.inputs * self.held.largest)
        return Pass(1, self.inputs * self.input_bytes, held, None, self.size)

    def activations(self, execution: Execution) -> int:
        """Return the bytes of the inputs that are encoded at a time."""
        inputs = min(self.inputs, execution.chunk or self.inputs)
        if not execution.checkpointing or self.checkpointed is None:
            return self.held.of(inputs)
        # One block at a time is computed again; its own activations make room for the gradients within it.
        blocks = max(1, self.size.blocks)
        block = replace(self.held, each=self.held.each // blocks, once=self.held.once // blocks)
        return self.checkpointed.once + inputs * self.checkpointed.each + block.of(inputs, in_passing=1)


@dataclass(frozen=True)
class Weights:
    """The weights of a model, in bytes.

    Attributes:
        trained: all that are trained.
        frozen: all others.
        sharded: of the trained ones, those that FSDP shards.
        states: what the optimiser keeps, as a multiple of the trained ones; 2 of AdamW.
    """

    trained: int
    frozen: int
    sharded: int
    states: float


@dataclass(frozen=True)
class StepMemory:
    """What a training step needs on a device, in bytes.

    Attributes:
        weights: with those that FSDP has gathered.
        gradients: with the copies that DDP sends.
        states: of the optimiser.
        activations: with the inputs.
        peak: the most that is there at a time; less than the sum, since gradients take the place of activations.
    """

    weights: int
    gradients: int
    states: int
    activations: int
    peak: int


def step_memory(weights: Weights, passes: Sequence[Pass], execution: Execution, world: int) -> StepMemory:
    """Return what a step needs on each of `world` devices; the passes are in the order of the forward pass."""
    sharded = weights.sharded if execution.strategy == "fsdp" else 0
    own = weights.trained - sharded + sharded // world
    # A block in use, the next one on its way, and the gradients of as many; or all blocks until the end of the step.
    count = max(1, sum(each.size.blocks for each in passes))
    gathered = sharded if execution.chunk else min(sharded, 4 * sharded // count)
    messages = 0 if world == 1 or sharded else weights.trained
    inputs = sum(each.inputs * each.input_bytes for each in passes)
    needed = [each.activations(execution) for each in passes]
    gradients = [each.size.gradients * own // max(1, weights.trained) for each in passes]
    chunks = any(each.inputs > (execution.chunk or each.inputs) for each in passes)
    moving = inputs + _most(needed, gradients, own, chunks)
    activations = inputs + (max(needed, default=0) if chunks else sum(needed))
    states = int(weights.states * own)
    total = own + gathered + weights.frozen
    return StepMemory(total, own + messages, states, activations, total + states + messages + moving)


def _most(activations: Sequence[int], gradients: Sequence[int], all_gradients: int, chunks: bool) -> int:
    """Return the most that activations and gradients need together while the backward pass goes from tower to tower.

    Of several chunks, those of one are there, and nearly all gradients of its tower.
    """
    here, most, done = 0 if chunks else sum(activations), 0, 0
    for held, own in reversed(list(zip(activations, gradients, strict=True))):
        most = max(most, done + (own + held if chunks else here))
        here, done = here - held, done + own
    return max(most, all_gradients)


def said(weights: Weights, passes: Sequence[Pass], execution: Execution, world: int, limit: int | None) -> str:
    """Return in a sentence what a step needs on each of `world` devices.

    If it is more than the `limit` of a device, also what it would be with other settings.
    """
    memory = step_memory(weights, passes, execution, world)
    devices = "on the device" if world == 1 else f"on each of {world} devices"
    parts = (
        f"weights {_gib(memory.weights)}, gradients {_gib(memory.gradients)}, optimiser {_gib(memory.states)}, "
        f"activations {_gib(memory.activations)}"
    )
    needs = f"A step needs about {_gib(memory.peak)} GiB {devices} ({parts})"
    if limit is None or memory.peak <= limit:
        return f"{needs}."
    better = [
        f"with {words}: {_gib(peak)}"
        for words, other in _alternatives(execution, passes, world)
        if (peak := step_memory(weights, passes, other, world).peak) < memory.peak
    ]
    return "; ".join([f"{needs}, and it has {_gib(limit)}", *better]) + "."


def _alternatives(execution: Execution, passes: Sequence[Pass], world: int) -> Iterator[tuple[str, Execution]]:
    """Yield settings that need less memory, each with its words, those that cost least time first."""
    if world > 1 and execution.strategy != "fsdp" and not execution.compile:
        yield "model.execution.strategy fsdp", replace(execution, strategy="fsdp")
    if not execution.checkpointing:
        yield "model.execution.checkpointing true", replace(execution, checkpointing=True)
    most = max((each.inputs for each in passes), default=0)
    chunk = max(1, min(execution.chunk or most, most) // 4)
    yield f"model.execution.chunk {chunk}", replace(execution, chunk=chunk)
    yield (
        f"model.execution.chunk {chunk} and checkpointing true",
        replace(execution, chunk=chunk, checkpointing=True),
    )


def _gib(size: int) -> str:
    """Return bytes as GiB with a precision that fits an estimate.

    >>> [_gib(int(size * 2**30)) for size in (61.3, 3.456, 0.0123)]
    ['61', '3.5', '0.012']
    """
    found = size / _GIB
    return f"{found:.0f}" if found >= 9.95 else f"{found:.1f}" if found >= 0.1 else f"{found:.2g}"
