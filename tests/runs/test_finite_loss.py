"""A loss that is no number ends the training, and the checkpoint of before stays."""

import os
import re
from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from mmood.cli.main import main
from mmood.errors import MmoodError
from mmood.modules.fine_tuning.cross_entropy import CrossEntropyFineTune
from mmood.runs.ending_callback import last_checkpoint
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


def test_fit_ends_with_a_sentence_and_keeps_the_last_good_checkpoint(toy_flags, tmp_path, monkeypatch, capsys):
    step, checkpoints = CrossEntropyFineTune.training_step, tmp_path / "run/checkpoints"
    before: dict[str, bytes] = {}

    def overflowing(self, batch, batch_idx):
        loss = step(self, batch, batch_idx)
        if self.current_epoch == 0:
            return loss
        before.update({path.name: path.read_bytes() for path in checkpoints.iterdir()} if not before else {})
        return loss * float("nan")

    monkeypatch.setattr(CrossEntropyFineTune, "training_step", overflowing)
    flags = ["--data.train", "toy-train", "--data.val.id", "0.25", "--data.ood", "null", "--data.batch_size", "8"]
    trainer = ["--trainer.max_epochs", "3", "--trainer.precision", "32-true", "--run_dir", str(tmp_path / "run")]
    assert main(["fit", "--config", "vitb16_fft.yaml", *toy_flags, *flags, *trainer]) == 2
    error = capsys.readouterr().err
    named = re.search(r"has not been finite since step (\d+), .*last good checkpoint is (\S+\.ckpt)", error)
    assert named, error
    first, path = int(named[1]), Path(named[2])
    assert torch.load(path, weights_only=True)["global_step"] == first - 1
    assert path == checkpoints / "last.ckpt"
    assert {path.name: path.read_bytes() for path in checkpoints.iterdir()} == before


def test_the_last_checkpoint_is_the_newest_and_not_the_best(tmp_path):
    best, last = ModelCheckpoint(tmp_path, monitor="id/accuracy"), ModelCheckpoint(tmp_path)
    best.best_model_path, last.best_model_path = str(tmp_path / "epoch=0.ckpt"), str(tmp_path / "last.ckpt")
    run = Run()
    run.checkpoint_callbacks = [best, last]
    assert last_checkpoint(run) is None
    for seconds, path in ((1, best.best_model_path), (2, last.best_model_path)):
        Path(path).touch()
        os.utime(path, (seconds, seconds))
        assert last_checkpoint(run) == path
