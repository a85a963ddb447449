"""A loss that is no number ends the training, and the checkpoint of before stays."""

import pytest
import torch

from mmood.errors import MmoodError
from mmood.runs.finite_loss import FiniteLoss


class Run:
    """What the callback asks of a Trainer."""

    checkpoint_callbacks = ()
    global_step = 0


def losses(values):
    callback, run = FiniteLoss(), Run()
    for value in values:
        run.global_step += 1
        callback.on_train_batch_end(run, None, {"loss": torch.tensor(value)}, None, 0)
    callback.on_save_checkpoint(run, None, {})


@pytest.mark.parametrize("values", [[1.0, 2.0], [1.0, float("inf"), 2.0], [1.0, float("nan"), 2.0]])
def test_a_loss_that_is_or_becomes_a_number_goes_on(values):
    losses(values)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_loss_that_stays_no_number_ends_the_training(bad):
    with pytest.raises(MmoodError, match=r"not been finite since step 3, .*no checkpoint was written before"):
        losses([1.0, 2.0, bad, bad])


def test_it_is_seen_within_an_epoch():
    with pytest.raises(MmoodError, match="since step 7"):
        losses([1.0] * 6 + [float("nan")] * 100)
