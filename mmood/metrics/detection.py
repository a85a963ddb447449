"""The metrics of OoD detection as a plain torchmetrics.Metric, for use outside mmood's evaluation."""

from __future__ import annotations

from dataclasses import asdict

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torchmetrics import Metric

from mmood.errors import MmoodError
from mmood.metrics.functional import ood_metrics
from mmood.metrics.gather import append, gathered


class OoDDetection(Metric):  # type: ignore[misc]  # torchmetrics is not followed by the type checker
    """AUROC, AUPR and FPR95 of one score between ID and OoD images, exact on any number of ranks.

    Higher scores mean more in-distribution. Scores are kept as given: no sigmoid, no bins; memory is 8 bytes a score.

    >>> metric = OoDDetection()
    >>> metric.update(torch.tensor([0.9, 0.2, 0.6, 0.1]), torch.tensor([True, False, True, False]))
    >>> metric.compute()["auroc"]
    tensor(1., dtype=torch.float64)
    """

    is_differentiable = False
    higher_is_better = None
    full_state_update = False

    id_scores: list[Tensor]
    ood_scores: list[Tensor]

    def __init__(self) -> None:
        # torchmetrics' own gather knows neither the dtype of an empty rank nor rows that wait on the CPU.
        super().__init__(sync_on_compute=False)
        self.add_state("id_scores", [], dist_reduce_fx="cat")
        self.add_state("ood_scores", [], dist_reduce_fx="cat")

    def update(self, scores: Float[Tensor, " batch"], target: Bool[Tensor, " batch"] | Int[Tensor, " batch"]) -> None:
        """Add a batch of scores.

        Args:
            scores: higher = more in-distribution.
            target: true, or 1, where the image is in-distribution; false, or 0, where it is OoD.

        Raises:
            MmoodError: the shapes differ, or the target holds anything else, such as -1 for OoD.
        """
        _refuse_shapes(scores, target)
        is_id = _is_id(target)
        scores = scores.detach().double()
        append(self.id_scores, scores[is_id])
        append(self.ood_scores, scores[~is_id])

    def compute(self) -> dict[str, Tensor]:
        """Return the metrics of `mmood.metrics.functional.ood_metrics` over all ranks, by name, as float64 scalars.

        Raises:
            MmoodError: a side is empty or holds NaN.
        """
        empty = torch.empty(0, dtype=torch.float64)
        id_scores = gathered(self.id_scores, empty, self.device)
        ood_scores = gathered(self.ood_scores, empty, self.device)
        metrics = ood_metrics(id_scores.numpy(), ood_scores.numpy())
        return {name: torch.tensor(value, dtype=torch.float64) for name, value in asdict(metrics).items()}


def _refuse_shapes(scores: Tensor, target: Tensor) -> None:
    if scores.ndim != 1 or scores.shape != target.shape:
        raise MmoodError(
            f"The scores have the shape {tuple(scores.shape)} and the target has {tuple(target.shape)}; both must be "
            "one-dimensional, with one value per image."
        )


def _is_id(target: Bool[Tensor, " batch"] | Int[Tensor, " batch"]) -> Bool[Tensor, " batch"]:
    """Return the target as a mask. Integers would index in its place: 0 and 1 are rows, and so is -1."""
    if target.dtype == torch.bool:
        return target
    other = target[(target != 0) & (target != 1)]
    if target.is_floating_point() or target.is_complex() or len(other):
        found = f"{other[0].item()} among its values" if len(other) else f"the type {target.dtype}"
        raise MmoodError(
            f"The target has {found}; it must be true or 1 where the image is in-distribution, and false or 0 where it "
            "is OoD. `labels >= 0` turns class labels with -1 for OoD into such a mask."
        )
    return target.bool()
