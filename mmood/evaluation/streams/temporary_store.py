"""A temporary store: what scores read of the images of a prediction, in files until all have come."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mmood.errors import MmoodError
from mmood.evaluation.streams.source import Rows


class TemporaryStore:
    """Features and embeddings by key, in two mapped files; the memory stays flat.

    Batches come in the order of workers, a stream is in the order of keys.

    Args:
        folder: for the files; it must not exist, or be that of an earlier temporary store.
        count: N, number of images.
    """

    def __init__(self, folder: Path, count: int) -> None:
        self.folder = folder
        self.count = count
        self._maps: dict[str, np.memmap] = {}

    def add(
        self,
        key: Int[Tensor, " batch"],
        features: Float[Tensor, "batch features"],
        embedding: Float[Tensor, "batch dim"] | None,
    ) -> None:
        """Keep a batch."""
        self._write("features", key, features)
        if embedding is not None:
            self._write("embedding", key, embedding)

    def rows(self) -> Rows:
        """Return what was kept; rows whose key never came hold nothing of meaning."""
        if "features" not in self._maps:
            return Rows(torch.empty(self.count, 1), None)
        mapped = {name: torch.from_numpy(array) for name, array in self._maps.items()}
        return Rows(mapped["features"], mapped.get("embedding"))

    def remove(self) -> None:
        """Delete the files."""
        self._maps.clear()
        for path in self.folder.glob("predict.*.f32"):
            path.unlink()
        if self.folder.exists() and not any(self.folder.iterdir()):
            self.folder.rmdir()

    def _write(self, name: str, key: Tensor, values: Float[Tensor, "batch width"]) -> None:
        if not len(key):
            return
        if name not in self._maps:
            path = self.folder / f"predict.{name}.f32"
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                self._maps[name] = np.memmap(path, np.float32, "w+", shape=(self.count, values.shape[1]))
            except OSError as error:
                raise MmoodError(f"{path} cannot be written: {error.strerror or error}.") from error
        self._maps[name][key.cpu().numpy()] = values.float().cpu().numpy()
