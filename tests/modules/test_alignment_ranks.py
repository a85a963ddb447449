"""Two ranks train the weights of one, and a killed run goes on bit for bit."""

import os
import signal
from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from tiny import CLASSES, batches, save_tiny, trainer, tune, write_shards
from torch.utils.data import DataLoader

from mmood.loading.loader import Decoder
from mmood.loading.settings import LoaderSettings
from mmood.loading.train import TrainLoader
from mmood.modules.fine_tuning.alignment import LossSettings
from mmood.modules.optimisation import Execution, WarmupCosine

GLOBAL_BATCH = 64
# The loss as it is for 20 steps; its variants for fewer.
STEPS = {"pairs": 20, "distinct-chunks": 5, "classes": 5}
VARIANTS = {
    "pairs": {},
    "distinct-chunks": {"loss": LossSettings(texts="distinct"), "execution": Execution(chunk=12)},
    "classes": {"loss": LossSettings(texts="classes", detach_scale=True, multi_positive=True)},
}


def share(rank: int, world: int, steps: int) -> DataLoader:
    """Return a rank's rows of the global batches."""
    rows = slice(rank * GLOBAL_BATCH // world, (rank + 1) * GLOBAL_BATCH // world)
    own = [{name: value[rows] for name, value in batch.items()} for batch in batches(steps, GLOBAL_BATCH)]
    return DataLoader(own, batch_size=None)


def one_rank(world: int, folder: Path) -> None:
    rank = int(os.environ.get("RANK", "0"))
    for name, variant in VARIANTS.items():
        module = tune(save_tiny(folder / f"clip{rank}"), **variant)
        spread = {"devices": world, "strategy": "ddp"} if world > 1 else {}
        trainer(STEPS[name], **spread).fit(module, share(rank, world, STEPS[name]))
        if rank == 0:
            torch.save(module.trained_state(), folder / f"{name}-{world}.pt")


def exact(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """Return 1 where a gradient is more than rounding: softmax does not see the bias of attention's keys."""
    mask = torch.ones_like(tensor)
    if name.endswith("attn.in_proj_bias"):
        mask.chunk(3)[1].zero_()
    return mask


@pytest.mark.ddp
def test_two_ranks_train_the_weights_of_one(tmp_path, forked):
    ranks = forked.start_ranks(one_rank, 2, tmp_path)
    one_rank(1, tmp_path)
    for rank in ranks:
        assert rank.wait() == 0, rank.err
    for name in VARIANTS:
        one, two = (torch.load(tmp_path / f"{name}-{world}.pt") for world in (1, 2))
        start = tune(save_tiny(tmp_path / "clip0")).trained_state()
        for key in one:
            error = ((two[key] - one[key]) * exact(key, one[key])).norm() / one[key].norm()
            assert error < 1e-5, f"{name}: {key} differs by {error:.1e}"
        moved = max(((one[key] - start[key]).norm() / one[key].norm()).item() for key in one)
        assert moved > 0.003, f"{name}: nothing to compare, the weights moved by {moved:.1e}"


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
