"""One pass over the validation sets that keeps what scores read, so that each value of a grid is tried on tensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from mmood.modules.base import AbstractDetector
from mmood.scores.base import Embedded, Reference


@dataclass(frozen=True)
class Recorded:
    """A set as the scores read it, on the CPU.

    Attributes:
        embedded: of all images, batch by batch.
        label: (N,) class, -1 for OoD.
    """

    embedded: list[Embedded]
    label: Int[Tensor, " images"]

    def logits(self) -> Float[Tensor, "images classes"]:
        """Return the logits of all images."""
        return torch.cat([batch.logits for batch in self.embedded])


Work = Callable[[Reference, dict[str, Recorded], torch.device], None]


class Recording(Callback):
    """Keeps what the steps of a detector without scores return, set by set, and works on it before the run ends.

    Args:
        names: the validation sets, in the order of their loaders.
        work: called once with the reference, the sets and the device of the module.
    """

    def __init__(self, names: list[str], work: Work) -> None:
        self.names = names
        self.work = work
        self.read_images = False
        self._batches: dict[str, list[tuple[Embedded, Tensor]]] = {name: [] for name in names}

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep a batch, on the CPU."""
        self.read_images |= "image" in batch
        kept = outputs.embedded.to(torch.device("cpu")), outputs.scored.label.cpu()
        self._batches[self.names[dataloader_idx]].append(kept)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Work on all of it, while the trainer can still encode a bank."""
        assert isinstance(pl_module, AbstractDetector)
        assert pl_module.reference_ is not None, "fit comes before the first batch"
        sets = {
            name: Recorded([embedded for embedded, _ in batches], torch.cat([label for _, label in batches]))
            for name, batches in self._batches.items()
        }
        self.work(pl_module.reference_, sets, pl_module.device)
