"""The position of a training loader, so that a run can resume in the middle of an epoch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypedDict

from mmood.errors import MmoodError


class TrainState(TypedDict):
    """The position in training: `batch` of the `steps` batches of `epoch` were consumed, in the order of `order`."""

    epoch: int
    batch: int
    steps: int
    order: dict[str, int | str]


class Position:
    """The epoch, and how many of its batches were consumed; the same on every rank.

    What counts is what was consumed, not what was prepared. Lightning knows it as the loader's `sampler`: it names the
    epoch before every pass.

    Args:
        steps: batches of a whole epoch.
        order: the settings that make the order of the samples.

    Attributes:
        epoch: of the next pass.
    """

    def __init__(self, steps: int, order: Mapping[str, int | str]) -> None:
        self.steps = steps
        self.order = dict(order)
        self.epoch = 0
        self._consumed = 0
        self._resume_at = 0

    def set_epoch(self, epoch: int) -> None:
        """Name the epoch of the next pass; a position to resume at is kept only if it is in this epoch."""
        if epoch != self.epoch:
            self.epoch, self._consumed, self._resume_at = epoch, 0, 0

    def begin(self) -> int:
        """Begin a pass; return its first batch, `steps` if the epoch to resume had ended."""
        self._consumed, self._resume_at = self._resume_at, 0
        return self._consumed

    def advance(self) -> None:
        """Count a batch as consumed."""
        self._consumed += 1

    def state(self) -> TrainState:
        """Return the position after the last batch that was consumed."""
        return {"epoch": self.epoch, "batch": self._consumed, "steps": self.steps, "order": dict(self.order)}

    def load(self, state: TrainState) -> None:
        """Go on from a saved position: the next pass continues its epoch with the same batches.

        Raises:
            MmoodError: the epoch is unfinished and its order was made with other settings.
        """
        different = {name: value for name, value in state["order"].items() if self.order.get(name) != value}
        if different and 0 < state["batch"] < state["steps"]:
            name, value = next(iter(different.items()))
            raise MmoodError(
                f"The checkpoint is at batch {state['batch']} of epoch {state['epoch']} with {name} = {value}, but "
                f"now it is {self.order.get(name)}, which changes the order of the samples; set it back, or resume "
                "from a checkpoint at the end of an epoch."
            )
        self.epoch, self._consumed = state["epoch"], state["batch"]
        self._resume_at = self.steps if self._consumed >= state["steps"] else self._consumed
