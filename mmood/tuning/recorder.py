"""One pass over the validation sets that keeps what scores read, so that each value of a grid is tried on tensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self, final

import torch
from jaxtyping import Float, Int
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from mmood.loading.batch import Batch
from mmood.modules.base import Scored
from mmood.scores.base import AbstractScore, Embedded, Part, Reference


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


@final
class Recorder(AbstractScore):
    """Scores nothing: keeps the reference of `fit` and the parts of each image that other scores will read.

    Args:
        parts: which parts; features and logits are kept in any case.
    """

    def __init__(self, parts: list[Part]) -> None:
        super().__init__()
        self.needs = frozenset(parts)
        self.reference_: Reference | None = None
        self.last_: Embedded | None = None

    def fit(self, reference: Reference) -> Self:
        """Keep the reference."""
        self.reference_ = reference
        return self

    def forward(self, embedded: Embedded) -> Float[Tensor, " batch"]:
        """Keep the batch; returns zeros."""
        self.last_ = Embedded(
            embedded.features.cpu(),
            embedded.logits.cpu(),
            None if embedded.embedding is None else embedded.embedding.cpu(),
            embedded.patches.cpu() if "patches" in self.needs and embedded.patches is not None else None,
        )
        return torch.zeros_like(embedded.logits[:, 0])


Work = Callable[[Reference, dict[str, Recorded], torch.device], None]


class Recording(Callback):
    """Collects what a `Recorder` keeps, set by set, and works on it before the run ends.

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
        """Take the batch from the recorder."""
        self._keep(_recorder(pl_module), outputs, batch, self.names[dataloader_idx])

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Work on all of it, while the trainer can still encode a bank."""
        reference = _recorder(pl_module).reference_
        assert reference is not None, "fit comes before the first batch"
        sets = {
            name: Recorded([embedded for embedded, _ in batches], torch.cat([label for _, label in batches]))
            for name, batches in self._batches.items()
        }
        self.work(reference, sets, pl_module.device)

    def _keep(self, recorder: Recorder, scored: Scored, batch: Batch, name: str) -> None:
        assert recorder.last_ is not None
        self.read_images |= "image" in batch
        self._batches[name].append((recorder.last_, scored["label"].cpu()))


def _recorder(module: LightningModule) -> Recorder:
    scores = module.scores
    recorder = scores["recorder"]  # type: ignore[index]
    assert isinstance(recorder, Recorder)
    return recorder
