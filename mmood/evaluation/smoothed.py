"""The smoothed scores of an evaluation, as columns beside the plain ones."""

from __future__ import annotations

from typing import final

import torch
from jaxtyping import Float
from lightning.pytorch import Trainer
from torch import Tensor

from mmood.defences import Smoother, SmoothingSettings
from mmood.loading.batch import Batch
from mmood.modules.base import AbstractDetector

OFF = SmoothingSettings()


@final
class SmoothedScores:
    """The smoothed scores of batches; none where smoothing is off.

    Args:
        settings: of the smoothing.
    """

    def __init__(self, settings: SmoothingSettings) -> None:
        self.settings = settings

    @property
    def variants(self) -> tuple[str, ...]:
        """What results call the smoothed scores and their bounds; none where smoothing is off."""
        return self.settings.variants() if self.settings.copies else ()

    def record(self) -> dict[str, object] | None:
        """Return the settings as plain data for `results.json`; None where smoothing is off."""
        settings = self.settings
        return {**vars(settings), "radii": list(settings.radii), "seed": settings.seed or 0} if self.variants else None

    def of(self, trainer: Trainer, module: AbstractDetector, batch: Batch, ood: bool) -> Float[Tensor, "batch columns"]:
        """Return for each static score a column for each variant; see `Smoother.columns`.

        Args:
            trainer: in whose precision the copies are encoded.
            module: whose scores are smoothed.
            batch: with images.
            ood: whether they are OoD images.
        """

        def score(images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch scores"]:
            with trainer.precision_plugin.forward_context():
                return module.evaluate({**batch, "image": images}).scored.scores

        if not len(batch["key"]):
            return torch.empty(0, len(module.score_names) * len(self.variants), device=module.device)
        smoother = Smoother(self.settings, module.encoder.preprocessing.std)
        return smoother.columns(score, batch["image"], batch["key"], ood)
