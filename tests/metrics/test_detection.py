"""`OoDDetection.update` takes the targets in circulation: masks, 0/1, and no others."""

import pytest
import torch

from mmood.errors import MmoodError
from mmood.metrics.detection import OoDDetection

SCORES = torch.tensor([0.9, 0.2, 0.6, 0.1])
IS_ID = torch.tensor([True, False, True, False])


def auroc(scores: torch.Tensor, target: torch.Tensor) -> float:
    metric = OoDDetection()
    metric.update(scores, target)
    return metric.compute()["auroc"].item()


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int32, torch.int64])
def test_zeros_and_ones_mean_what_a_mask_means(dtype: torch.dtype) -> None:
    assert auroc(SCORES, IS_ID.to(dtype)) == 1.0
    assert auroc(SCORES, (~IS_ID).to(dtype)) == 0.0


@pytest.mark.parametrize(
    ("target", "said"),
    {
        "-1 for OoD": (torch.tensor([1, -1, 1, -1]), "-1 among its values"),
        "class labels": (torch.tensor([3, -1, 0, -1]), "3 among its values"),
        "floats": (IS_ID.float(), r"the type torch\.float32"),
    }.values(),
)
def test_other_targets_are_refused_with_what_is_right(target: torch.Tensor, said: str) -> None:
    metric = OoDDetection()
    with pytest.raises(MmoodError, match=said) as error:
        metric.update(SCORES, target)
    assert "`labels >= 0`" in str(error.value)
    metric.update(SCORES, IS_ID)  # nothing of the refused batch was kept
    assert metric.compute()["auroc"] == 1.0


def test_shapes_must_agree() -> None:
    for scores, target in ((SCORES[:, None], IS_ID[:, None]), (SCORES, IS_ID[:2]), (SCORES, IS_ID[:, None])):
        with pytest.raises(MmoodError, match="one value per image"):
            OoDDetection().update(scores, target)


def test_an_empty_batch_adds_nothing() -> None:
    metric = OoDDetection()
    metric.update(torch.empty(0), torch.empty(0, dtype=torch.int64))
    metric.update(SCORES.bfloat16().requires_grad_(), IS_ID)
    assert metric.compute()["auroc"] == 1.0
