"""Where training resumes: the training loader of a data module, which may be made before or after its state is read."""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

from mmood.loading.position import TrainState


class Resumable(Protocol):
    """A training loader that knows its position."""

    def state_dict(self) -> TrainState:
        """Return the position."""

    def load_state_dict(self, state: TrainState) -> None:
        """Continue from a position."""


Loader = TypeVar("Loader", bound=Resumable)


class Resumption(Generic[Loader]):
    """Holds the training loader of a data module for the module's own `state_dict` and `load_state_dict`.

    Lightning keeps a loader's position too, but gives it back only to loaders that it makes after it has read the
    checkpoint. Where a schedule asks for the number of steps, it makes them before, and the epoch would begin again.
    """

    def __init__(self) -> None:
        self._loader: Loader | None = None
        self._resume_at: TrainState | None = None

    def of(self, loader: Loader) -> Loader:
        """Return this loader, which from now on is the one that trains, at the position that was read for it."""
        self._loader = loader
        if self._resume_at is not None:
            loader.load_state_dict(self._resume_at)
            self._resume_at = None
        return loader

    def state_dict(self) -> dict[str, TrainState]:
        """Return the position of the training loader; nothing without one."""
        return {} if self._loader is None else {"train": self._loader.state_dict()}

    def load_state_dict(self, state_dict: dict[str, TrainState]) -> None:
        """Set the position from which the training loader resumes; the loader need not exist yet."""
        if self._loader is None:
            self._resume_at = state_dict.get("train")
        elif "train" in state_dict:
            self._loader.load_state_dict(state_dict["train"])
