"""A killed run goes on bit for bit."""

import os
import signal
from pathlib import Path

import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from tiny import CLASSES, save_tiny, trainer, tune, write_shards

from mmood.loading.loader import Decoder
from mmood.loading.settings import LoaderSettings
from mmood.loading.train import TrainLoader
from mmood.modules.fine_tuning.alignment import LossSettings
from mmood.modules.optimisation import WarmupCosine


class Kill(Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


def train(folder: Path, kill_at: int | None) -> None:
    """Train for two epochs of six steps, from the last checkpoint in the folder if there is one."""
    saves = ModelCheckpoint(folder / "steps", "{step}", every_n_train_steps=1, save_top_k=-1)
    module = tune(
        save_tiny(folder / "clip"),
        prompts=["a {}", "one {}", "the {}"],
        loss=LossSettings(max_scale=7.388),
        schedule=lambda optimizer, steps: WarmupCosine(optimizer, steps, warmup=3),
    )
    last = max((folder / "steps").glob("*.ckpt"), key=lambda path: int(path.stem.split("=")[1]), default=None)
    callbacks = [saves, Kill(kill_at)] if kill_at else [saves]
    run = trainer(12, callbacks=callbacks, enable_checkpointing=True, default_root_dir=folder)
    index = write_shards(folder / "data")
    decoder = Decoder(module.image_transform(train=True), len(CLASSES))
    loader = TrainLoader(index, index.keys(), decoder, 8, LoaderSettings(workers=2, shuffle_buffer=16))
    run.fit(module, loader, ckpt_path=last)
    torch.save(module.trained_state(), folder / "end.pt")


def test_a_killed_run_ends_with_the_same_weights(tmp_path, forked):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train(whole, None)
    killed = forked.call(train, cut, 9)
    assert killed.code == -signal.SIGKILL, killed.err
    assert not (cut / "end.pt").exists()
    train(cut, None)
    expected, found = torch.load(whole / "end.pt"), torch.load(cut / "end.pt")
    assert expected.keys() == found.keys()
    assert [name for name in expected if not torch.equal(expected[name], found[name])] == []
