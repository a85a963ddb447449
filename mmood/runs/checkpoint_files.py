"""Checkpoints on disk: whole or not there, on every kind of file system."""

from __future__ import annotations

from pathlib import Path
from typing import Any, final

import torch
from lightning.fabric.plugins import CheckpointIO, TorchCheckpointIO

from mmood.errors import MmoodError
from mmood.files import whole_file


@final
class WholeCheckpoints(CheckpointIO):
    """Writes a checkpoint beside its place, brings it to the disk and then renames it.

    Lightning's own way writes to the system's temporary folder and moves it from there: to another file system that is
    a copy under the final name, and a process that is killed in it leaves half a checkpoint that looks like a whole
    one. What is no local path is left to Lightning.
    """

    def __init__(self) -> None:
        self._remote = TorchCheckpointIO()

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Write a checkpoint.

        Raises:
            MmoodError: it cannot be written; names path and reason.
        """
        if "://" in str(path) or storage_options is not None:
            self._remote.save_checkpoint(checkpoint, path, storage_options)
            return
        with whole_file(Path(path)) as file:
            try:
                torch.save(checkpoint, file)
            except RuntimeError as error:
                # torch closes its archive in any case, and its own error then hides that of the disk.
                if isinstance(error.__context__, OSError):
                    raise error.__context__ from error
                raise MmoodError(f"{path} cannot be written: {str(error).splitlines()[0]}") from error

    def load_checkpoint(
        self, path: str | Path, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Return the content of a checkpoint: tensors and plain values unless `weights_only` is false."""
        only = True if weights_only is None else weights_only
        return self._remote.load_checkpoint(path, map_location or (lambda storage, _: storage), weights_only=only)

    def remove_checkpoint(self, path: str | Path) -> None:
        """Delete a checkpoint."""
        self._remote.remove_checkpoint(path)
